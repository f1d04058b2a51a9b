"""Max and average pooling.

Shapes: x, dx (N, H, W, C); y, dy and winner (N, OH, OW, C). ``winner`` is the number of the position that won, by rows
of the window: the first of equal ones. Padding never wins. Loops run over the channels, and every pixel of a gradient
gathers from the windows that saw it, so that each array is passed once: memory limits all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from cnnforge.backends.numba.driver import Call, bound
from cnnforge.backends.numba.formulas import Code, Vector, passage, tree
from cnnforge.backends.numba.rules.channels import row_width
from cnnforge.backends.numba.rules.pool import halves, whole
from cnnforge.backends.numba.signature import Kernel, doubles, longs
from cnnforge.backends.numba.sweeps import at_winner, clear, largest, repeat, sweep, windows
from cnnforge.backends.numba.vectors import BYTE, INT, LANES, WIDTH
from cnnforge.backends.numpy.pool import shares
from cnnforge.backends.numpy.types import Arrays
from cnnforge.shapes import Window

# Words of every argument block: x and y or their gradients; the winners and whether they are int32, or, of a mean, the
# shares of each row and column of windows (halves: none); then the sizes.
X, Y, WINNER, WIDE, H, W, C, KH, KW, SH, SW, TOP, LEFT, OH, OW = range(15)
ROW_SHARES, COLUMN_SHARES = WINNER, WIDE


# Windows of 2x2 that do not overlap.

_largest = windows(largest, pictures=1, outs=2)
_spread = windows(lambda dy, winner: (at_winner(winner, dy),), pooled=1, winners=1, painted=1)
_quarters = windows(lambda x: (tree(x) * 0.25,), pictures=1, outs=1)
_fourths = windows(lambda dy: ([dy * 0.25] * 4,), pooled=1, painted=1)


@Kernel
def _halved(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> y, winner; without winners the mean. Range: rows of y in the whole batch."""
    a = longs(block)
    line, oh, ow, c = a[W] * a[C], a[OH], a[OW], a[C]
    for row in range(lo, hi):
        at, x = row * ow * c, a[X] + 4 * line * (row // oh * a[H] + row % oh * 2)
        if a[WINNER]:
            _largest(x, a[Y] + 4 * at, a[WINNER] + at, line, ow, c)
        else:
            _quarters(x, a[Y] + 4 * at, line, ow, c)


@Kernel
def _halved_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy, winner -> dx; without winners each gets its share. Range: rows of dy in the whole batch."""
    a = longs(block)
    line, oh, ow, c = a[W] * a[C], a[OH], a[OW], a[C]
    seen = 2 * ow * c
    for row in range(lo, hi):
        at, dx = row * ow * c, a[X] + 4 * line * (row // oh * a[H] + row % oh * 2)
        if a[WINNER]:
            _spread(a[Y] + 4 * at, a[WINNER] + at, dx, line, ow, c)
        else:
            _fourths(a[Y] + 4 * at, dx, line, ow, c)
        if seen < line:
            clear(dx + 4 * seen, line - seen)
            clear(dx + 4 * (line + seen), line - seen)
        if row % oh == oh - 1:
            clear(dx + 8 * line, (a[H] - 2 * oh) * line)


# Any windows.


def _pooled(fold: Callable[..., None]) -> Any:
    """A function for kernels, (block, row): one row of y.

    fold(code, block, loads, (i0, i1), (j0, j1), o, p, here, vectors, left) writes the result of window (o, p), of which
    rows i0 to i1 and columns j0 to j1 lie in the picture. ``loads(i, j)`` are its vectors there, ``here`` is where in y
    they go.
    """

    def generate(code: Code, block: ir.Value, row: ir.Value) -> None:
        height, width, c, kh, kw, sh, sw, top, left_of, oh, ow = (code.at(block, i) for i in range(H, OW + 1))
        n = code.quotient(row, oh)
        o = code.less(row, code.times(n, oh))
        r = code.less(code.times(o, sh), top)
        rows = code.larger(code.less(0, r), 0), code.smaller(kh, code.less(height, r))
        line = code.times(code.sum(code.times(n, height), r), width)
        with code.loop(0, ow, 1) as p:
            q = code.less(code.times(p, sw), left_of)
            columns = code.larger(code.less(0, q), 0), code.smaller(kw, code.less(width, q))
            corner = code.sum(code.at(block, X), code.times(code.sum(line, q), c, 4))
            window = code.times(code.sum(code.times(row, ow), p), c)

            def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
                def loads(i: ir.Value, j: ir.Value) -> list[Vector]:
                    pixel = code.sum(code.times(i, width), j)
                    at = code.sum(corner, code.times(code.sum(code.times(pixel, c), k), 4))
                    return [code.load(code.sum(at, WIDTH * v), left) for v in range(vectors)]

                fold(code, block, loads, rows, columns, o, p, code.sum(window, k), vectors, left)

            code.channels(c, body)

    return passage(2, generate)


def _fold_taps(
    code: Code, rows: Any, columns: Any, initial: Sequence[Vector], step: Callable[..., Sequence[Vector]]
) -> list[Vector]:
    """``step(i, j, *values)`` for every position of a window that lies in the picture, by rows."""

    def along(i: ir.Value, *values: Vector) -> list[Vector]:
        return code.folded(columns[0], columns[1], values, lambda j, *values: step(i, j, *values))

    return code.folded(rows[0], rows[1], initial, along)


def _maximum(kind: ir.Type) -> Callable[..., None]:
    def fold(
        code: Code, block: ir.Value, loads: Any, rows: Any, columns: Any, o: ir.Value, p: ir.Value, here: ir.Value,
        vectors: int, left: ir.Value | None,
    ) -> None:  # fmt: skip
        kw = code.at(block, KW)

        def number(i: ir.Value, j: ir.Value) -> Vector:
            return code.whole(code.sum(code.times(i, kw), j))

        def step(i: ir.Value, j: ir.Value, *values: Vector) -> list[Vector]:
            best, winner, here, seen = values[:vectors], values[vectors:], number(i, j), loads(i, j)
            better = [(v > b) | v.is_nan() for v, b in zip(seen, best, strict=True)]
            return [
                *(m.where(v, b) for m, v, b in zip(better, seen, best, strict=True)),
                *(m.where(here, w) for m, w in zip(better, winner, strict=True)),
            ]

        first = rows[0], columns[0]
        values = _fold_taps(code, rows, columns, [*loads(*first), *[number(*first)] * vectors], step)
        y, winner = code.at(block, Y), code.at(block, WINNER)
        for i in range(vectors):
            at = code.sum(here, LANES * i)
            code.store(code.sum(y, code.times(at, 4)), values[i], left)
            code.store(code.sum(winner, code.times(at, 1 if kind is BYTE else 4)), values[vectors + i], left, kind)

    return fold


def _average(
    code: Code, block: ir.Value, loads: Any, rows: Any, columns: Any, o: ir.Value, p: ir.Value, here: ir.Value,
    vectors: int, left: ir.Value | None,
) -> None:  # fmt: skip
    def step(i: ir.Value, j: ir.Value, *values: Vector) -> list[Vector]:
        return [v + x for v, x in zip(values, loads(i, j), strict=True)]

    share = _window_share(code, block, o, p)
    y = code.sum(code.at(block, Y), code.times(here, 4))
    for i, total in enumerate(_fold_taps(code, rows, columns, [code.zero()] * vectors, step)):
        code.store(code.sum(y, WIDTH * i), total * share, left)


def _window_share(code: Code, block: ir.Value, o: ir.Value, p: ir.Value) -> Vector:
    """1 / number of positions that count in window (o, p)."""
    of_row = code.float_at(code.sum(code.at(block, ROW_SHARES), code.times(o, 4)))
    return of_row * code.float_at(code.sum(code.at(block, COLUMN_SHARES), code.times(p, 4)))


def _gathered(term: Callable[..., Vector]) -> Any:
    """A function for kernels, (block, row): one row of dx, every pixel the sum over the windows that saw it.

    term(code, block, dy, (i, j), (o, p), here, left) is what position (i, j) gets of a vector dy of window (o, p), that
    lies ``here`` in the gradient of y.
    """

    def generate(code: Code, block: ir.Value, row: ir.Value) -> None:
        height, width, c, kh, kw, sh, sw, top, left_of, oh, ow = (code.at(block, i) for i in range(H, OW + 1))

        def seen_by(at: ir.Value, kernel: ir.Value, stride: ir.Value, count: ir.Value) -> tuple[ir.Value, ir.Value]:
            """The windows, first and behind the last, that see place ``at`` of the padded picture."""
            first = code.quotient(code.larger(code.less(code.sum(at, stride), kernel), 0), stride)
            return first, code.smaller(count, code.sum(code.quotient(at, stride), 1))

        n = code.quotient(row, height)
        r = code.sum(code.less(row, code.times(n, height)), top)
        rows = seen_by(r, kh, sh, oh)
        with code.loop(0, width, 1) as column:
            q = code.sum(column, left_of)
            columns = seen_by(q, kw, sw, ow)
            pixel = code.times(code.sum(code.times(row, width), column), c)

            def body(k: ir.Value, vectors: int, left: ir.Value | None) -> None:
                def step(o: ir.Value, p: ir.Value, *values: Vector) -> list[Vector]:
                    window = code.sum(code.times(code.sum(code.times(n, oh), o), ow), p)
                    here = code.sum(code.times(window, c), k)
                    place = code.less(r, code.times(o, sh)), code.less(q, code.times(p, sw))
                    made = []
                    for i, v in enumerate(values):
                        at = code.sum(here, LANES * i)
                        dy = code.load(code.sum(code.at(block, Y), code.times(at, 4)), left)
                        made.append(v + term(code, block, dy, place, (o, p), at, left))
                    return made

                sums = _fold_taps(code, rows, columns, [code.zero()] * vectors, step)
                dx = code.sum(code.at(block, X), code.times(code.sum(pixel, k), 4))
                for i, v in enumerate(sums):
                    code.store(code.sum(dx, WIDTH * i), v, left)

            code.channels(c, body)

    return passage(2, generate)


def _won(kind: ir.Type) -> Callable[..., Vector]:
    def term(code: Code, block: ir.Value, dy: Vector, place: Any, window: Any, here: ir.Value, left: Any) -> Vector:
        at = code.sum(code.at(block, WINNER), code.times(here, 1 if kind is BYTE else 4))
        number = code.whole(code.sum(code.times(place[0], code.at(block, KW)), place[1]))
        return code.load(at, left, kind).equals(number).where(dy, 0.0)

    return term


def _shared(code: Code, block: ir.Value, dy: Vector, place: Any, window: Any, here: ir.Value, left: Any) -> Vector:
    return dy * _window_share(code, block, *window)


_max_row, _max_row_wide, _average_row = _pooled(_maximum(BYTE)), _pooled(_maximum(INT)), _pooled(_average)
_max_dx_row, _max_dx_row_wide, _average_dx_row = _gathered(_won(BYTE)), _gathered(_won(INT)), _gathered(_shared)


@Kernel
def _max(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> y, winner. Range: rows of y in the whole batch."""
    for row in range(lo, hi):
        if longs(block)[WIDE]:
            _max_row_wide(block, row)
        else:
            _max_row(block, row)


@Kernel
def _max_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy, winner -> dx. Range: rows of dx in the whole batch."""
    for row in range(lo, hi):
        if longs(block)[WIDE]:
            _max_dx_row_wide(block, row)
        else:
            _max_dx_row(block, row)


@Kernel
def _mean(block: int, lo: int, hi: int, thread: int) -> None:
    """x -> y. Range: rows of y in the whole batch."""
    for row in range(lo, hi):
        _average_row(block, row)


@Kernel
def _mean_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy -> dx. Range: rows of dx in the whole batch."""
    for row in range(lo, hi):
        _average_dx_row(block, row)


# One window, the picture.

_scale = sweep(lambda x, factor: (x * factor,), streams=1, outs=1, scalars=1)
_fill = sweep(lambda row: (row,), streams=0, rows=1, outs=1)


@Kernel
def _whole_mean_dx(block: int, lo: int, hi: int, thread: int) -> None:
    """dy -> dx, the same at every position. Range: samples."""
    a = longs(block)
    c, width, size, share = a[3], a[4], a[5], doubles(a[6])[0]
    row = a[2] + thread * 4 * width
    for n in range(lo, hi):
        _scale(a[1] + 4 * n * c, row, share, c, width)
        repeat(row, c, width)
        _fill(row, a[0] + 4 * n * size, size, width)


# Binding.


def _sizes(x: Any, w: Window) -> tuple[int, ...]:
    return *x.shape[1:], *w.kernel, *w.stride, w.pads[0], w.pads[2], *w.out


def max_pool2d(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window) -> Call:
    (x,), (y, winner) = ins, outs
    wide = winner.dtype.itemsize > 1
    kernel = _halved if halves(x, window) and not wide else _max
    return bound(kernel, y.shape[0] * y.shape[1], threads, x, y, winner, wide, *_sizes(x, window))


def max_pool2d_dx(ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window) -> Call:
    (winner, dy), (dx,) = ins, outs
    wide = winner.dtype.itemsize > 1
    kernel, rows = (_halved_dx, dy) if halves(dx, window) and not wide else (_max_dx, dx)
    return bound(kernel, rows.shape[0] * rows.shape[1], threads, dx, dy, winner, wide, *_sizes(dx, window))


def _shares(x: Any, y: Any, window: Window, count_include_pad: bool) -> tuple[Any, Any]:
    return tuple(shares(x.shape[1 + axis], axis, window, count_include_pad, y.dtype) for axis in (0, 1))  # type: ignore[return-value]


def average_pool2d(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, count_include_pad: bool
) -> Call:
    (x,), (y,) = ins, outs
    half = halves(x, window)
    own = (0, 0) if half else _shares(x, y, window, count_include_pad)
    return bound(_halved if half else _mean, y.shape[0] * y.shape[1], threads, x, y, *own, *_sizes(x, window))


def average_pool2d_dx(
    ins: Arrays, outs: Arrays, scratch: Arrays, threads: int, *, window: Window, count_include_pad: bool
) -> Call:
    (dy,), (dx,) = ins, outs
    if halves(dx, window):
        return bound(_halved_dx, dy.shape[0] * dy.shape[1], threads, dx, dy, 0, 0, *_sizes(dx, window))
    if whole(dx, window):
        n, c, size = len(dx), dx.shape[-1], dx[0].size
        return bound(_whole_mean_dx, n, threads, dx, dy, scratch[0], c, row_width(c), size, c / size)
    own = _shares(dx, dy, window, count_include_pad)
    return bound(_mean_dx, dx.shape[0] * dx.shape[1], threads, dx, dy, *own, *_sizes(dx, window))


NATIVE: dict[str, Any] = {
    "max_pool2d": max_pool2d, "max_pool2d_dx": max_pool2d_dx,
    "average_pool2d": average_pool2d, "average_pool2d_dx": average_pool2d_dx,
}  # fmt: skip
