"""Losses, and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numpy.capabilities import LOSSES


def _numbers(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Labels are class numbers."""
    return str(ins[1].dtype) == "int64"


def _alike(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Labels are of the scores' type."""
    return str(ins[1].dtype) == "float32"


RULES = {
    **dict.fromkeys(("softmax", "softmax_dx"), Rule()),
    **{op + end: Rule(_numbers if op.startswith("softmax") else _alike) for op in LOSSES for end in ("", "_dz")},
}
