"""Local response normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.ir.op import Scratch


def _terms(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Of each thread: one position's terms, with room for a window on either side and for the last vector."""
    return (Scratch((THREADS, -(-ins[0].shape[-1] // 16) * 16 + attrs["size"]), ins[0].dtype, False),)


RULES = dict.fromkeys(("lrn", "lrn_dx"), Rule(scratch=_terms))
