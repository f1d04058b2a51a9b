"""Backends by name as in ``cnnforge.backends``, and ``emulated``: the cupy backend on a GPU that is not there."""

from __future__ import annotations

from cnnforge import backends
from cnnforge.backends.base import Backend
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.plan.capabilities import Capabilities
from tests.backends.cupy.emulator import Emulator

EMULATED = "emulated"


def create(name: str) -> Backend:
    return CupyBackend(Emulator()) if name == EMULATED else backends.create(name)


def capabilities_of(name: str) -> Capabilities:
    return CupyBackend.capabilities if name == EMULATED else backends.capabilities_of(name)
