"""Window arithmetic on plain ints.

Shapes here carry no batch axis: ``(H, W, C)`` for a volume, ``(F,)`` for a vector. Everything that needs an output
size, a padding or a receptive field asks here, so each rule is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from cnnforge.errors import ShapeError

Shape = tuple[int, ...]
Pair = tuple[int, int]
#: What YAML may say: ``valid``, ``same``, one int for all sides, or ``[top, bottom, left, right]``.
Padding = Literal["valid", "same"] | int | tuple[int, int, int, int]

#: Stands for a height or width that cannot be known because an earlier layer was wrong: large enough that every
#: window fits, so that one mistake is reported once and later layers are still checked for the rest.
UNKNOWN_SIZE = 1 << 20


def count(shape: Shape) -> int:
    """Number of elements."""
    return prod(shape)


def pair(size: int | Pair) -> Pair:
    """An int stands for height and width alike."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over (height, width), with every size worked out.

    kernel, stride, dilation: (height, width)
    pads:   (top, bottom, left, right), already resolved from ``same``/``valid``
    out:    (OH, OW)
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]
    out: Pair

    @property
    def extent(self) -> Pair:
        """Input rows and columns that one window spans, holes of dilation included."""
        return extent(self.kernel[0], self.dilation[0]), extent(self.kernel[1], self.dilation[1])


def extent(kernel: int, dilation: int) -> int:
    """Rows spanned by a dilated kernel: ``dilation * (kernel - 1) + 1``."""
    return dilation * (kernel - 1) + 1


def window_out(size: int, span: int, stride: int, before: int, after: int, ceil_mode: bool = False) -> int:
    """Output length of a sliding window: ``floor((size + before + after - span) / stride) + 1``.

    With ``ceil_mode`` the division rounds up; a window that would start in the end padding is dropped, as in PyTorch.
    Gives 0 or less where the window does not fit.
    """
    room = size + before + after - span
    if not ceil_mode:
        return room // stride + 1 if room >= 0 else 0
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + before else out


def same_pads(size: int, span: int, stride: int) -> Pair:
    """(before, after) for ``ceil(size / stride)`` outputs; an odd row goes to the end (ONNX ``SAME_UPPER``, Keras)."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def window(
    size: Pair, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1), ceil_mode: bool = False
) -> Window:
    """Work out a window over an input of ``size`` (H, W).

    Raises ShapeError where it does not fit, with the formula and its numbers.
    """
    spans = extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1])
    if padding == "same":
        pads = (*same_pads(size[0], spans[0], stride[0]), *same_pads(size[1], spans[1], stride[1]))
    elif padding == "valid":
        pads = (0, 0, 0, 0)
    elif isinstance(padding, int):
        pads = (padding, padding, padding, padding)
    else:
        pads = padding
    out = (
        window_out(size[0], spans[0], stride[0], pads[0], pads[1], ceil_mode),
        window_out(size[1], spans[1], stride[1], pads[2], pads[3], ceil_mode),
    )
    if min(out) < 1:
        raise _does_not_fit(0 if out[0] < 1 else 1, size, kernel, spans, dilation, pads)
    return Window(kernel, stride, dilation, pads, out)


def _does_not_fit(
    axis: int, size: Pair, kernel: Pair, spans: Pair, dilation: Pair, pads: tuple[int, int, int, int]
) -> ShapeError:
    before, after = pads[2 * axis], pads[2 * axis + 1]
    padded = size[axis] + before + after
    padding = f"2*{before}" if before == after else f"{before} + {after}"
    span = f"{spans[axis]}"
    if dilation[axis] > 1:
        span = f"{dilation[axis]}*({kernel[axis]} - 1) + 1 = {spans[axis]}"
    widest = (padded - 1) // dilation[axis] + 1
    return ShapeError(
        f"a {spans[0]}x{spans[1]} window does not fit a {size[0]}x{size[1]} input",
        why=f"{size[axis]} + {padding} < {span}",
        fix=f"kernel <= {widest}, or padding: same, or one pool fewer before it",
    )


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one output position sees of the input (Araujo et al., Distill 2019).

    size:   (rows, columns) of the input that reach one output
    jump:   input rows/columns between two neighbouring outputs
    offset: input position of the first output's centre, in half pixels: 1 is the middle of the first pixel
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    offset: Pair = (1, 1)

    def through(self, w: Window) -> ReceptiveField:
        """The receptive field after one more window."""
        spans, before = w.extent, (w.pads[0], w.pads[2])
        return ReceptiveField(
            size=(self.size[0] + (spans[0] - 1) * self.jump[0], self.size[1] + (spans[1] - 1) * self.jump[1]),
            jump=(self.jump[0] * w.stride[0], self.jump[1] * w.stride[1]),
            offset=(
                self.offset[0] + (spans[0] - 1 - 2 * before[0]) * self.jump[0],
                self.offset[1] + (spans[1] - 1 - 2 * before[1]) * self.jump[1],
            ),
        )

    def whole(self, size: Pair) -> ReceptiveField:
        """The receptive field of a layer that reads every position of its (H, W) input."""
        return ReceptiveField(
            size=(self.size[0] + (size[0] - 1) * self.jump[0], self.size[1] + (size[1] - 1) * self.jump[1]),
            jump=self.jump,
            offset=(self.offset[0] + (size[0] - 1) * self.jump[0], self.offset[1] + (size[1] - 1) * self.jump[1]),
        )

    def joined(self, others: Sequence[ReceptiveField]) -> ReceptiveField:
        """The smallest field that holds this one and ``others``, which see other parts for the same output position.

        Its neighbours are as far apart as this one's. First and last row, in half pixels: ``offset -+ (size - 1)``.
        """
        if not others:
            return self
        fields = (self, *others)
        first = [min(f.offset[axis] - f.size[axis] + 1 for f in fields) for axis in (0, 1)]
        last = [max(f.offset[axis] + f.size[axis] - 1 for f in fields) for axis in (0, 1)]
        return ReceptiveField(
            size=((last[0] - first[0]) // 2 + 1, (last[1] - first[1]) // 2 + 1),
            jump=self.jump,
            offset=((first[0] + last[0]) // 2, (first[1] + last[1]) // 2),
        )
