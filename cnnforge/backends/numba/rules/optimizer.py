"""Optimizers."""

from cnnforge.backends.numba.rules.base import LANES, Rule
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numpy.capabilities import CLIPS, GATHERS, OPTIMIZERS
from cnnforge.ir.op import Scratch

RULES = {
    **dict.fromkeys((*OPTIMIZERS, *CLIPS, *GATHERS), Rule()),
    # A vector of sums of squares for each piece.
    "clip_norm": Rule(scratch=lambda i, o, a: (Scratch((-(-i[0].shape[0] // PIECE), LANES), "float32", False),)),
}
