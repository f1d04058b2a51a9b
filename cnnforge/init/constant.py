"""Weights that begin all alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cnnforge.fields import Float
from cnnforge.init.base import Init
from cnnforge.shapes import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Constant(Init):
    """Every weight is the same number. Short: ``{constant: 0.1}``.

    value: the number
    """

    type: Literal["constant"]
    value: Float

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        import numpy as np

        return np.full(shape, self.value)


class Zeros(Init):
    """Every weight is 0: for biases. All units of a layer whose *weights* begin at 0 stay alike."""

    type: Literal["zeros"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        import numpy as np

        return np.zeros(shape)


class Ones(Init):
    """Every weight is 1: for the scale of a normalisation."""

    type: Literal["ones"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        import numpy as np

        return np.ones(shape)
