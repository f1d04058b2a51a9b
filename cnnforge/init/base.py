"""What an initialiser is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnforge.fields import Spec
from cnnforge.shapes import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Init(Spec):
    """YAML fields, a check against the weight's shape, and the values themselves."""

    type: str

    def check(self, shape: Shape) -> None:
        """Raise ShapeError where a weight of ``shape`` cannot begin this way."""

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        """float64 values of ``shape``. ``fan``: (inputs, outputs) per unit; ``key``: the stream of ``rng.stream``."""
        raise NotImplementedError
