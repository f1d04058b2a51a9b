"""How a convolution and the gradient of its input run over their maps, on plain ints.

Both gather: an output row meets the input rows under it, each with one row of the kernel. With a stride the gradient's
rows fall into phases, by which kernel rows ever reach them, and each phase is a convolution of stride 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod

from cnnforge.backends.numba.rules.base import LANES
from cnnforge.backends.numpy.capabilities import is_pointwise
from cnnforge.shapes import Window

#: Positions of a convolution that is a product of the input as it lies.
POINTWISE = 192


@dataclass(frozen=True, slots=True)
class Phase:
    """Outputs ``first + q*stride`` for ``q < count``; output q meets input ``q*step + e`` with kernel row k."""

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]  # (e, k), e ascending


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a gathering convolution: the input's and output's size, see ``Phase`` for step and stride."""

    size: int
    out: int
    step: int
    stride: int
    phases: tuple[Phase, ...]

    @property
    def count(self) -> int:
        """Outputs of the longest phase."""
        return max(p.count for p in self.phases)

    @property
    def low(self) -> int:
        """The input row that output 0 meets first."""
        return min((e for p in self.phases for e, _ in p.taps), default=0)

    @property
    def span(self) -> int:
        """Input rows from the first to the last that one output meets, over all phases."""
        return max((e for p in self.phases for e, _ in p.taps), default=0) - self.low + 1

    def rows(self, count: int) -> int:
        """Input rows that ``count`` neighbouring outputs meet."""
        return (count - 1) * self.step + self.span

    @property
    def inside(self) -> bool:
        """Do outputs meet nothing but rows that are there?"""
        return self.low >= 0 and self.low + self.rows(self.count) <= self.size


def forward(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int, flip: bool) -> Axis:
    """An axis of a convolution."""
    taps = tuple((j * dilation - pad, kernel - 1 - j if flip else j) for j in range(kernel))
    return Axis(size, out, stride, 1, (Phase(0, out, taps),))


def backward(size: int, out: int, kernel: int, stride: int, dilation: int, pad: int, flip: bool) -> Axis:
    """An axis of the gradient of a convolution's input: ``size`` is still that of the convolution's input."""
    phases = []
    for first in range(min(stride, size)):
        taps = []
        for j in range(kernel):
            e, rest = divmod(first + pad - j * dilation, stride)
            if not rest:
                taps.append((e, kernel - 1 - j if flip else j))
        phases.append(Phase(first, -(-(size - first) // stride), tuple(sorted(taps))))
    return Axis(out, size, 1, stride, tuple(phases))


@dataclass(frozen=True)
class Walk:
    """Both axes, and the pieces that the work is cut into: some rows of one sample, or some whole samples.

    c: channels that are gathered from;  flat: there are no maps, every position is a sample
    most: outputs of a piece of one sample, and of one of several;  floats: of the padded copy of a piece's input
    always: copy the input even where it has what is met, because whole vectors are read behind it
    """

    down: Axis
    across: Axis
    c: int
    flat: bool = False
    most: tuple[int, int] = (256, 256)
    floats: int = 1 << 17
    always: bool = False

    @cached_property
    def copied(self) -> bool:
        """Is the input of a piece copied with padding around it, because outputs meet what is not there?"""
        return self.always or not (self.down.inside and self.across.inside)

    @cached_property
    def width(self) -> int:
        """Columns of the padded copy."""
        return self.across.rows(self.across.count)

    @cached_property
    def rows(self) -> int:
        """Output rows of a piece, in each phase: all, or about the same in every piece."""
        most = max(1, self.most[0] // self.across.count)
        while most > 1 and self.down.rows(most) * self.width * self.c > self.floats:
            most -= 1
        pieces = -(-self.down.count // most)
        return -(-self.down.count // pieces)

    @cached_property
    def bands(self) -> int:
        """Pieces of a sample."""
        return -(-self.down.count // self.rows)

    @cached_property
    def samples(self) -> int:
        """Samples of a piece."""
        if self.flat:
            return POINTWISE
        if self.bands > 1:
            return 1
        by_positions = self.most[1] // (self.rows * self.across.count)
        return max(1, min(by_positions, self.floats // (self.down.rows(self.rows) * self.width * self.c)))

    @cached_property
    def positions(self) -> int:
        """Outputs of a piece and phase at most."""
        return self.samples * self.rows * self.across.count

    @cached_property
    def copy(self) -> int:
        """Floats of the padded copy of a piece's input, and a vector behind it."""
        return self.samples * self.down.rows(self.rows) * self.width * self.c + LANES

    def pieces(self, n: int) -> int:
        """Pieces of ``n`` samples."""
        return -(-n // self.samples) * self.bands


def contiguous(phase: Phase) -> bool:
    """Do the phase's outputs meet neighbouring columns, so that channels and columns are one run?"""
    return all(b[0] - a[0] == 1 for a, b in pairwise(phase.taps))


def walk(size: tuple[int, int], c: int, w: Window, flip: bool, back: bool = False) -> Walk:
    """A convolution over a map of ``size`` (H, W), or (``back``) the gradient of its input.

    c: channels that are gathered from: of the input, or of the gradient of the output
    """
    if is_pointwise(w):
        point = Axis(1, 1, 1, 1, (Phase(0, 1, ((0, 0),)),))
        return Walk(point, point, c, flat=True)
    axis = backward if back else forward
    down, across = (
        axis(size[i], w.out[i], w.kernel[i], w.stride[i], w.dilation[i], w.pads[2 * i], flip) for i in (0, 1)
    )
    return Walk(down, across, c)


def depthwise_walk(size: tuple[int, int], c: int, w: Window, flip: bool, back: bool = False) -> Walk:
    """The same for a depthwise convolution, whose pieces may be larger: no weights have to stay in the cache."""
    at = walk(size, c, w, flip, back)
    if at.flat:
        at = replace(at, flat=False)
    return replace(at, most=(4096, 64), floats=1 << 15, always=c % LANES > 0)


def padded(columns: int) -> int:
    """``columns`` in whole vectors."""
    return -(-columns // LANES) * LANES


def packed(w: tuple[int, ...], groups: int, back: bool = False) -> int:
    """Floats of packed weights.  w: (KH, KW, C/groups, F)."""
    kh, kw, c, f = w
    f //= groups
    return kh * kw * groups * (f * padded(c) if back else c * padded(f))


def sums(w: tuple[int, ...], groups: int) -> int:
    """Floats of the sums that a weight gradient is made of."""
    return prod(w[:3]) * groups * padded(w[3] // groups)
