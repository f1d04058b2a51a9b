"""Which neighbouring nodes are one kernel: a head, and element-wise parts that it does before it stores a number.

Imports neither NumPy nor CuPy: planning reads only this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from cnnforge.backends.cupy import activation
from cnnforge.backends.cupy.activation import FUNCTIONS, SLOPES
from cnnforge.backends.cupy.device import Arrays
from cnnforge.backends.cupy.tail import NOTHING, Function, Tail

#: A part of a chain: its op, how many inputs are its own, its attrs.
Part = tuple[str, int, Mapping[str, Any]]


def _named(heads: Sequence[str], *stages: Sequence[str]) -> set[str]:
    """Chains of a head and, of each stage, one part or none."""
    rests = ["+".join(part for part in rest if part) for rest in product(*(("", *stage) for stage in stages))]
    return {f"{head}+{rest}" for head in heads for rest in rests if rest}


CHAINS = frozenset(
    _named(("conv2d", "conv2d_dx", "matmul"), ("bias",), ("add",), FUNCTIONS)
    | _named(("max_pool2d", "average_pool2d"), ("bias",), FUNCTIONS)
    | _named(("batch_norm", "batch_norm_inference", "group_norm", "layer_norm"), ("add",), FUNCTIONS)
    | _named(("multiply", "scale", "scale_channels"), ("add",), (*FUNCTIONS, *SLOPES))
    | _named(("add",), ("add",), ("add",), (*FUNCTIONS, *SLOPES))
    | _named(("bias", *FUNCTIONS, *SLOPES), ("add", "multiply", "scale"))
    | _named(("conv2d_dx", "matmul_dx", "max_pool2d_dx", "average_pool2d_dx", "dropout_dx"), ("add",), SLOPES)
    | _named(("slice_channels", "batch_norm_dx", "group_norm_dx", "layer_norm_dx"), ("add",), SLOPES)
)


def _part(op: str, beside: Arrays, attrs: Mapping[str, Any]) -> Tail:
    """One part, which reads ``beside`` as well."""
    match op:
        case "add":
            return Tail((Function("plus", "cell"),), beside)
        case "multiply":
            return Tail((Function("times", "cell"),), beside)
        case "bias":
            return Tail((Function("plus", "channel"),), beside)
        case "scale":
            return Tail((Function("times", numbers=1),), (attrs["factor"],))
        case _:
            return activation.tail(op, beside, attrs)


def tail(parts: Sequence[Part], beside: Arrays) -> Tail:
    """The parts behind a chain's head.  beside: what they read beside each other, in order"""
    whole, taken = NOTHING, 0
    for op, own, attrs in parts:
        whole += _part(op, beside[taken : taken + own], attrs)
        taken += own
    return whole
