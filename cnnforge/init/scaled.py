"""Random weights whose spread keeps the size of activations from layer to layer."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, Literal

from cnnforge.init.base import Init
from cnnforge.rng import normal, uniform
from cnnforge.shapes import Shape, count

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _uniform(shape: Shape, limit: float, key: tuple[int, int]) -> NDArray[Any]:
    return ((2.0 * uniform(key, count(shape)) - 1.0) * limit).reshape(shape)


def _normal(shape: Shape, deviation: float, key: tuple[int, int]) -> NDArray[Any]:
    return (normal(key, count(shape)) * deviation).reshape(shape)


class He(Init):
    """Normal of variance 2 / fan_in, for the ReLU family (He et al., ICCV 2015)."""

    type: Literal["he"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        return _normal(shape, sqrt(2.0 / fan[0]), key)


class HeUniform(Init):
    """Uniform of variance 2 / fan_in (He et al., ICCV 2015)."""

    type: Literal["he_uniform"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        return _uniform(shape, sqrt(6.0 / fan[0]), key)


class Glorot(Init):
    """Uniform of variance 2 / (fan_in + fan_out), for tanh, sigmoid and softmax (Glorot and Bengio, AISTATS 2010)."""

    type: Literal["glorot"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        return _uniform(shape, sqrt(6.0 / (fan[0] + fan[1])), key)


class GlorotNormal(Init):
    """Normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010)."""

    type: Literal["glorot_normal"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        return _normal(shape, sqrt(2.0 / (fan[0] + fan[1])), key)


class PyTorch(Init):
    """Uniform within 1 / sqrt(fan_in): what PyTorch's ``Conv2d`` and ``Linear`` begin with, weights and biases.

    There it is written as He's uniform for a leaky ReLU of slope sqrt(5); its variance is 1 / (3 fan_in).
    """

    type: Literal["pytorch"]

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        return _uniform(shape, sqrt(1.0 / fan[0]), key)
