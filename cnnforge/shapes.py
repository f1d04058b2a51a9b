"""Window arithmetic on plain ints.

Shapes here carry no batch axis: ``(H, W, C)`` for a volume, ``(F,)`` for a vector. Everything that needs an output
size, a padding or a receptive field asks here, so each rule is written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, gcd, prod
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
    transposed: the window slides over the output, and every input position adds to what lies under it
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]
    out: Pair
    transposed: bool = False

    def forward(self, size: Pair) -> Window:
        """The window of the convolution that a transposed one over an input of ``size`` (H, W) is the gradient of."""
        return replace(self, out=size, transposed=False)

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


def transposed_window(
    size: Pair, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, output_padding: Pair
) -> Window:
    """Work out a transposed window over an input of ``size`` (H, W):
    ``out = (size - 1)*stride - before - after + extent + output_padding``; ``same`` gives ``size * stride``.

    A convolution with this window makes ``size`` of ``out``. Of the sizes for which that is true the formula gives the
    smallest; ``output_padding`` adds rows and columns at the bottom and right, fewer than stride or dilation.
    Raises ShapeError where nothing is left, and where output_padding says nothing or too much.
    """
    spans = extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1])
    if padding == "same":
        if output_padding != (0, 0):
            raise ShapeError(
                "output_padding has no place beside padding: same",
                why="same gives the input's size times the stride, whatever the kernel",
                fix="leave output_padding out, or say the padding in numbers",
            )
        out = size[0] * stride[0], size[1] * stride[1]
        pads = (*same_pads(out[0], spans[0], stride[0]), *same_pads(out[1], spans[1], stride[1]))
        return Window(kernel, stride, dilation, pads, out, transposed=True)
    for axis in (0, 1):
        most = max(stride[axis], dilation[axis]) - 1
        if output_padding[axis] > most:
            raise ShapeError(
                f"output_padding {output_padding[axis]} is too large",
                why=f"it is not below stride {stride[axis]} or dilation {dilation[axis]}",
                fix=f"output_padding of at most {most}",
            )
    pads = (0, 0, 0, 0) if padding == "valid" else (padding,) * 4 if isinstance(padding, int) else padding
    full = tuple((size[i] - 1) * stride[i] + spans[i] + output_padding[i] for i in (0, 1))
    out = full[0] - pads[0] - pads[1], full[1] - pads[2] - pads[3]
    if min(out) < 1:
        axis = 0 if out[0] < 1 else 1
        before, after = pads[2 * axis], pads[2 * axis + 1]
        raise ShapeError(
            f"padding takes away all of a {full[0]}x{full[1]} output",
            why=f"({size[axis]} - 1)*{stride[axis]} + {spans[axis] + output_padding[axis]} - {before} - {after} < 1",
            fix=f"padding of at most {(full[axis] - 1) // 2}, or a larger kernel",
        )
    return Window(kernel, stride, dilation, pads, out, transposed=True)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one output position sees of the input (Araujo et al., Distill 2019).

    size:   (rows, columns) of the input that reach one output, at most
    jump:   input rows/columns between two neighbouring outputs
    offset: input position of the first output's centre, in half pixels: 1 is the middle of the first pixel

    Behind a transposed convolution neighbouring outputs may lie less than one of its inputs apart. What m + 1
    neighbouring outputs see is then ``size + jump * floor((rest + ahead*m) / finer)`` rows: ``jump`` is between those
    inputs, and outputs are ``jump * ahead / finer`` apart. Elsewhere ahead = finer = 1 and rest = 0.
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    offset: tuple[Fraction | int, Fraction | int] = (1, 1)
    finer: Pair = (1, 1)
    ahead: Pair = (1, 1)
    rest: Pair = (0, 0)

    @property
    def spacing(self) -> tuple[Fraction, Fraction]:
        """Input rows and columns from one output to the next; fractions behind a transposed convolution."""
        down, right = (Fraction(self.jump[i] * self.ahead[i], self.finer[i]) for i in (0, 1))
        return down, right

    def through(self, w: Window) -> ReceptiveField:
        """The receptive field after one more window.

        A window of extent e over these outputs sees e of them, so ``size`` is the formula above with m = e - 1, and
        from window to window m is multiplied by the stride.

        Transposed: output o gets something from input i where o + before = stride*i + dilation*k for a position k of
        the kernel, so m + 1 neighbouring outputs lie over the inputs from ceil((o + before - (e - 1)) / stride) to
        floor((o + m + before) / stride): at most floor((m + e - 1) / stride) + 1 of them. Put in for the number of
        inputs in the formula above, floor in floor, this is again of its form, with finer * stride for finer: exact
        for ahead = 1, else a bound. Its centre o stands at (o + before - (e - 1)/2) / stride.
        """
        reach = w.extent[0] - 1, w.extent[1] - 1
        before = w.pads[0], w.pads[2]
        spacing = self.spacing
        if w.transposed:
            moved = [(2 * before[i] - reach[i]) * spacing[i] / w.stride[i] for i in (0, 1)]
            field = self._seen(reach, stride=(1, 1), split=w.stride)
        else:
            moved = [(reach[i] - 2 * before[i]) * spacing[i] for i in (0, 1)]
            field = self._seen(reach, stride=w.stride, split=(1, 1))
        return replace(field, offset=(self.offset[0] + moved[0], self.offset[1] + moved[1]))

    def whole(self, size: Pair) -> ReceptiveField:
        """The receptive field of a layer that reads every position of its (H, W) input."""
        field = self._seen((size[0] - 1, size[1] - 1), (1, 1), (1, 1))
        moved = [(size[i] - 1) * self.spacing[i] for i in (0, 1)]
        return replace(self, size=field.size, offset=(self.offset[0] + moved[0], self.offset[1] + moved[1]))

    def joined(self, others: Sequence[ReceptiveField]) -> ReceptiveField:
        """The smallest field that holds this one and ``others``, which see other parts for the same output position.

        Its neighbours are as far apart as this one's. First and last row, in half pixels: ``offset -+ (size - 1)``.
        """
        if not others:
            return self
        fields = (self, *others)
        first = [min(f.offset[axis] - f.size[axis] + 1 for f in fields) for axis in (0, 1)]
        last = [max(f.offset[axis] + f.size[axis] - 1 for f in fields) for axis in (0, 1)]
        return replace(
            self,
            size=(ceil(Fraction(last[0] - first[0], 2)) + 1, ceil(Fraction(last[1] - first[1], 2)) + 1),
            offset=(Fraction(first[0] + last[0], 2), Fraction(first[1] + last[1], 2)),
        )

    def _seen(self, reach: Pair, stride: Pair, split: Pair) -> ReceptiveField:
        """See ``through``: ``reach`` more outputs at once, then steps of ``stride`` or of a ``split``-th."""
        one, other = (self._axis(i, reach[i], stride[i], split[i]) for i in (0, 1))
        size, jump, finer, ahead, rest = ((one[k], other[k]) for k in range(5))
        return ReceptiveField(size, jump, self.offset, finer, ahead, rest)

    def _axis(self, i: int, reach: int, stride: int, split: int) -> tuple[int, int, int, int, int]:
        """(size, jump, finer, ahead, rest) of axis ``i``, in lowest terms."""
        finer, ahead = self.finer[i] * split, self.ahead[i] * stride
        more, rest = divmod(self.rest[i] * split + self.ahead[i] * reach, finer)
        size, jump, shared = self.size[i] + self.jump[i] * more, self.jump[i], gcd(ahead, finer)
        if shared == finer:
            return size, jump * (ahead // finer), 1, 1, 0
        return size, jump, finer // shared, ahead // shared, rest // shared
