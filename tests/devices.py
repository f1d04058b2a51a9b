"""Backends by name as in ``cnnforge.backends``, and ``emulated``: the cupy backend on a GPU that is not there."""

from __future__ import annotations

from cnnforge import backends
from cnnforge.backends.base import Backend
from cnnforge.backends.cupy import capabilities
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.plan.capabilities import Capabilities
from tests.backends.cupy.emulator import Emulator

EMULATED = "emulated"
#: The same with a library of convolutions.
WITH_LIBRARY = "emulated with a library"
#: Plans that it has, one fewer than are asked for.
PLANS = 3


class LibraryBackend(CupyBackend):
    """As where cuDNN is installed."""

    capabilities = capabilities.WITH_LIBRARY


def create(name: str) -> Backend:
    if name == WITH_LIBRARY:
        return LibraryBackend(Emulator(plans=PLANS))
    return CupyBackend(Emulator()) if name == EMULATED else backends.create(name)


def capabilities_of(name: str) -> Capabilities:
    if name == WITH_LIBRARY:
        return LibraryBackend.capabilities
    return CupyBackend.capabilities if name == EMULATED else backends.capabilities_of(name)
