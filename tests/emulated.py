"""``python -m tests.emulated train …``: the command, where backend ``cupy`` finds a GPU that is not there."""

from __future__ import annotations

import sys

from cnnforge.backends.cupy import cuda
from cnnforge.backends.together import SINGLE, Together
from cnnforge.cli.main import main
from tests.backends.cupy.emulator import Emulator


def open_device(number: int | None = None, together: Together = SINGLE) -> Emulator:
    """Instead of CuPy's."""
    return Emulator(opaque=True, together=together)


def emulate() -> None:
    """From now on, in this process."""
    cuda.open_device = open_device


if __name__ == "__main__":
    emulate()
    sys.exit(main())
