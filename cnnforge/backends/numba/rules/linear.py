"""Matrix products."""

from math import inf

from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.ir.op import Scratch

#: Rows of a block of the right matrix that is packed at a time: with 32 columns it takes 64 KiB.
DEPTH = 512

_PACKED = Rule(scratch=lambda ins, outs, attrs: (Scratch((THREADS, DEPTH, 32), "float32", False),))

#: Floor and ceiling of what is fused behind a product: a bias, and an activation function that cuts.
BOUNDS = {"+bias": (-inf, inf), "+bias+relu": (0.0, inf), "+bias+relu6": (0.0, 6.0)}

RULES = dict.fromkeys(("matmul", "matmul_dx", "matmul_dw", *(f"matmul{tail}" for tail in BOUNDS)), _PACKED)
