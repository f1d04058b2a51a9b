"""What pages ask the library: networks run in float64 on the backend that is written to be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnforge.course.parts import Array
from cnnforge.model import Model
from cnnforge.rng import stream, uniform
from cnnforge.shapes import Padding
from cnnforge.spec import ModelSpec

#: The course's first picture: light on the left, dark on the right.
HALVES = np.repeat([[10.0, 10, 10, 0, 0, 0]], 6, axis=0)


def built(model: ModelSpec | Mapping[str, Any], seed: int = 0) -> Model:
    """The network with its first weights."""
    return Model(model, backend="numpy", precision="float64", seed=seed)


def outcome(model: ModelSpec | Mapping[str, Any], picture: Array) -> Array:
    """What the last layer gives of one picture: (H, W, C), or (H, W) for one channel -> (OH, OW, F) or (units,)."""
    volume = picture if picture.ndim == 3 else picture[..., None]
    result: Array = built(model).forward(volume[None])[0]
    return result


def one_layer(layer: Mapping[str, Any], shape: tuple[int, ...]) -> Mapping[str, Any]:
    """A network of this layer alone, for pictures of ``shape`` (H, W, C)."""
    return {"name": "one", "input": list(shape), "layers": {"one": dict(layer)}}


def convolved(
    picture: Array, kernel: Array, stride: int = 1, padding: Padding = "valid", backwards: bool = False
) -> Array:
    """(H, W) under one filter (KH, KW) -> (OH, OW).  backwards: as a transposed convolution, which spreads it."""
    layer = {
        "type": "conv_transpose" if backwards else "conv", "filters": 1, "kernel": list(kernel.shape),
        "stride": stride, "padding": list(padding) if isinstance(padding, tuple) else padding, "bias": False,
    }  # fmt: skip
    model = built(one_layer(layer, (*picture.shape, 1)))
    model.params["one.w"] = kernel[:, :, None, None]
    return model.forward(picture[None, :, :, None])[0, :, :, 0]


def padded(picture: Array, pads: tuple[int, int, int, int]) -> Array:
    """(H, W) with (top, bottom, left, right) more zeros around it."""
    return np.pad(picture, (pads[:2], pads[2:]))


def some_picture(rows: int, columns: int) -> Array:
    """Whole numbers from 0 to 9 that mean nothing, the same each time."""
    drawn: Array = np.floor(10 * uniform(stream(0, "course", "picture"), rows * columns)).reshape(rows, columns)
    return drawn
