"""Losses, and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numpy.capabilities import LOSSES
from cnnforge.ir.op import Scratch


def _numbers(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Labels are class numbers."""
    return str(ins[-1].dtype) == "int64"


def _alike(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Labels are of the scores' type."""
    return str(ins[1].dtype) == "float32"


def _alone(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Nothing is to be heeded of another process's labels."""
    return len(ins) == 1


def _factor(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """By what weighted labels are multiplied."""
    return (Scratch((1,), "float64", False),) if attrs["weights"] else ()


RULES = {
    **dict.fromkeys(("softmax", "softmax_dx"), Rule()),
    **{op + end: Rule(_numbers if op.startswith("softmax") else _alike) for op in LOSSES for end in ("", "_dz")},
    "soft_cross_entropy": Rule(_numbers),
    "class_targets": Rule(_alone, scratch=_factor),
    "mixed_targets": Rule(_alone, scratch=_factor),
}
