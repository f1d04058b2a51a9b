"""Optimizers."""

from cnnforge.backends.numba.rules.base import LANES, THREADS, Rule
from cnnforge.backends.numba.rules.elementwise import PIECE
from cnnforge.backends.numba.rules.linear import DEPTH
from cnnforge.backends.numpy.capabilities import CLIPS, GATHERS, OPTIMIZERS, muon_scratch
from cnnforge.ir.op import Scratch


def pieces(size: int) -> int:
    """Pieces of an array of ``size`` elements."""
    return -(-size // PIECE)


def _sums(*shape: int) -> Scratch:
    """A vector of sums for each piece."""
    return Scratch((*shape, LANES), "float32", False)


def _muon(matrices: tuple[tuple[int, int], ...]) -> tuple[Scratch, ...]:
    """What the numpy backend has; sums of squares of the largest matrix; blocks that products pack."""
    largest = max(m * n for m, n in matrices)
    return *muon_scratch(matrices, "float32"), _sums(pieces(largest)), Scratch((THREADS, DEPTH, 32), "float32", False)


RULES = {
    **dict.fromkeys((*OPTIMIZERS, *CLIPS, *GATHERS), Rule()),
    "clip_norm": Rule(scratch=lambda i, o, a: (_sums(pieces(i[0].shape[0])),)),
    "lamb": Rule(scratch=lambda i, o, a: (_sums(sum(map(pieces, a["sizes"])), 2),)),
    "muon": Rule(scratch=lambda i, o, a: _muon(a["matrices"])),
}
