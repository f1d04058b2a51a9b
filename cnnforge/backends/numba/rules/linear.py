"""Matrix products."""

from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.ir.op import Scratch

#: Rows of a block of the right matrix that is packed at a time: with 32 columns it takes 64 KiB.
DEPTH = 512

_PACKED = Rule(scratch=lambda ins, outs, attrs: (Scratch((THREADS, DEPTH, 32), "float32", False),))

RULES = dict.fromkeys(("matmul", "matmul_dx", "matmul_dw"), _PACKED)
