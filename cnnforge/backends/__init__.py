"""Backends by name. Importing this imports none of them: planning needs only their capabilities."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from cnnforge.backends.base import Backend
from cnnforge.backends.together import SINGLE, Together
from cnnforge.errors import BackendError
from cnnforge.plan.capabilities import Capabilities

#: What there is. ``auto`` is one of the first two.
NAMES = ("numba", "numpy", "cupy")


def resolve(name: str) -> str:
    """The backend that ``name`` stands for. Raises BackendError where it is not available."""
    if name == "auto":
        return "numba" if importlib.util.find_spec("numba") is not None else "numpy"
    if name not in NAMES:
        raise BackendError(
            f"backend {name} is not available",
            where="trainer.backend",
            why=f"this version of cnnforge has {', '.join(NAMES)}",
            fix="trainer.backend=auto; cnnforge doctor says what this machine has",
        )
    if name == "numba" and importlib.util.find_spec("numba") is None:
        raise BackendError(
            "backend numba is not available",
            where="trainer.backend",
            why="numba is not installed",
            fix="pip install numba, or trainer.backend=auto; cnnforge doctor says what this machine has",
        )
    return name


def capabilities_of(name: str) -> Capabilities:
    """What a backend can do, without importing NumPy or touching a device."""
    if resolve(name) == "numba":
        from cnnforge.backends.numba.capabilities import capabilities as of_numba

        return of_numba()
    if name == "cupy":
        from cnnforge.backends.cupy.capabilities import capabilities as of_cupy

        return of_cupy()
    from cnnforge.backends.numpy.capabilities import capabilities

    return capabilities()


def facts_of(name: str) -> Mapping[str, str]:
    """What a backend's speed depends on beside the processor and Python. Takes no memory of a device."""
    if resolve(name) != "cupy":
        return {}
    from cnnforge.backends.cupy.facts import facts

    return facts()


def create(name: str, threads: int | None = None, together: Together = SINGLE, device: int | None = None) -> Backend:
    """A backend, ready to bind. ``threads``: how many it may use; its own choice where not given.

    together: the processes that train one net; they ``join`` before they run a plan for several (``cnnforge.ir.ranks``)
    device:   the number of a GPU, of those that CUDA shows; the backend's own choice where not given
    Raises BackendError where its device is not there, which its capabilities do not need.
    """
    if device is not None and resolve(name) != "cupy":
        raise BackendError(
            f"device {device} is asked for, and backend {resolve(name)} computes on the CPU",
            where="trainer.device",
            why="it is the number of a GPU",
            fix="trainer.backend=cupy, or leave trainer.device out",
        )
    if resolve(name) == "numba":
        from cnnforge.backends.numba.backend import NumbaBackend

        return NumbaBackend(threads, together)
    if name == "cupy":
        from cnnforge.backends.cupy.backend import CupyBackend
        from cnnforge.backends.cupy.cuda import captures, open_device

        return CupyBackend(open_device(device, together), captures(), together)
    from cnnforge.backends.numpy.backend import NumpyBackend

    return NumpyBackend(threads, together)
