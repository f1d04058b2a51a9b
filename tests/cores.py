"""A machine of two cores, for what is shown: workspace of compiled kernels is planned for as many threads as cores."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from unittest.mock import patch

from cnnforge.backends.numba import rules


@contextmanager
def two_cores() -> Iterator[None]:
    """Plan as on a machine with two cores."""
    with ExitStack() as stack:
        for found in pkgutil.iter_modules(rules.__path__, f"{rules.__name__}."):
            if hasattr(module := import_module(found.name), "THREADS"):
                stack.enter_context(patch.object(module, "THREADS", 2))
        yield
