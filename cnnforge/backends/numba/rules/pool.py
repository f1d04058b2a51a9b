"""Pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numba.rules.channels import rows
from cnnforge.shapes import Window


def halves(x: Any, w: Window) -> bool:
    """Windows of 2x2 that do not overlap and lie in the picture."""
    inside = 2 * w.out[0] <= x.shape[1] and 2 * w.out[1] <= x.shape[2]
    return (w.kernel, w.stride, w.dilation, w.pads) == ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0)) and inside


def whole(x: Any, w: Window) -> bool:
    """One window, which is the picture."""
    return (w.kernel, w.out, w.pads) == (tuple(x.shape[1:3]), (1, 1), (0, 0, 0, 0))


def _native(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return bool(attrs["window"].dilation == (1, 1))


RULES = {
    **dict.fromkeys(("max_pool2d", "max_pool2d_dx", "average_pool2d"), Rule(_native)),
    "average_pool2d_dx": Rule(_native, lambda i, o, a: (rows(1, o[0]),) if whole(o[0], a["window"]) else ()),
}
