"""What kernels are given."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = tuple[Array, ...]
