"""Shapes: pixels that get lost, what layers see, where the parameters are."""

from __future__ import annotations

from collections.abc import Iterator

from cnnforge.blocks.conv import Conv
from cnnforge.blocks.pool import GlobalPool, Pool
from cnnforge.shapes import count
from cnnforge.spec.layers import MODEL_INPUT_ROW
from cnnforge.spec.lint.net import Finding, Net

#: The share of a picture's rows or columns from which on leaving them out is worth a word.
DROPPED_SHARE = 1 / 20
#: The share of all parameters that makes a layer heavy, and how many there are at least.
HEAVY_SHARE, HEAVY_TOTAL = 0.8, 100_000


def dropped_pixels(net: Net) -> Iterator[Finding]:
    """A pool or strided conv whose last window ends before the input does, so that at least 5% of its rows or columns
    are read by nothing. Not said of kernels smaller than their stride, which leave out pixels everywhere.
    """
    for row in net.rows:
        win = row.window
        if win is None or not isinstance(row.block, Conv | Pool):
            continue
        lost = [0, 0]
        for axis in (0, 1):
            read = (win.out[axis] - 1) * win.stride[axis] + win.extent[axis] - win.pads[2 * axis]
            if win.extent[axis] >= win.stride[axis]:
                lost[axis] = max(row.input[axis] - read, 0)
        if all(lost[axis] < DROPPED_SHARE * row.input[axis] for axis in (0, 1)):
            continue
        axis = 0 if lost[0] >= DROPPED_SHARE * row.input[0] else 1
        size, span, stride, out = row.input[axis], win.extent[axis], win.stride[axis], win.out[axis]
        parts = [f"{n} of {row.input[i]} {('rows', 'columns')[i]}" for i, n in enumerate(lost) if n]
        yield Finding(
            f"{row.name}: nothing reads the last {' and '.join(parts)}",
            row.path,
            f"{out} windows of {span}, {stride} apart, end at {size - lost[axis]} of {size}",
            "ceil_mode: true, or padding: same" if isinstance(row.block, Pool) else "padding: same",
        )


def even_kernel_same(net: Net) -> Iterator[Finding]:
    """An even kernel with ``padding: same`` at stride 1: it needs an odd number of rows of padding, which lie at one
    side, so the picture moves by half a pixel at each such layer.
    """
    for row in net.rows:
        block, win = row.block, row.window
        if not isinstance(block, Conv) or win is None or block.padding != "same":
            continue
        off = [win.stride[i] == 1 and win.pads[2 * i] != win.pads[2 * i + 1] for i in (0, 1)]
        if any(off):
            odd = [k + 1 if shifted else k for k, shifted in zip(win.kernel, off, strict=True)]
            yield Finding(
                f"{row.name}: a {win.kernel[0]}x{win.kernel[1]} kernel with padding: same is off centre",
                row.path,
                f"its padding is {win.pads} at top, bottom, left, right: the output lies half a pixel beside the input",
                f"an odd kernel: {odd[0] if odd[0] == odd[1] else odd}",
            )


def small_receptive_field(net: Net) -> Iterator[Finding]:
    """A last global_pool that takes together features which each see less than half of the picture's height and width:
    no layer sees how parts lie to one another. An fc behind a flatten does see it, so nothing is said of that.
    """
    height, width, _ = net.run.model.input
    for number, row in net.numbered():
        if not isinstance(row.block, GlobalPool) or row.reads[0] == MODEL_INPUT_ROW:
            continue
        if any(count(other.output[:-1]) > 1 for other in net.rows[number:]):
            continue  # a gate, as in squeeze and excite
        rows, columns = net.rows[row.reads[0]].field.size
        if 2 * rows < height and 2 * columns < width:
            yield Finding(
                f"{row.name}: takes together features that see {rows}x{columns} of the {height}x{width} input",
                row.path,
                "no layer sees more than that at once: how parts of the object lie to one another is lost",
                "one more stride or pool before the last convs, or more or larger kernels",
            )


def heavy_layer(net: Net) -> Iterator[Finding]:
    """An fc behind convolutions that holds over 80% of the parameters, in models of more than 100,000."""
    total = sum(row.param_count for row in net.rows)
    for row in net.rows:
        if row.type != "fc" or row.param_count <= HEAVY_SHARE * total or total <= HEAVY_TOTAL:
            continue
        flat = net.rows[row.reads[0]] if row.reads[0] != MODEL_INPUT_ROW else None
        if flat is None or flat.type != "flatten" or flat.reads[0] == MODEL_INPUT_ROW or count(flat.input[:-1]) == 1:
            continue
        h, w, c = flat.input
        yield Finding(
            f"{row.name}: holds {row.param_count / total:.1%} of all parameters",
            row.path,
            f"{row.param_count:,} of {total:,}: every unit has a weight for each of {h}x{w}x{c} values",
            f"{{type: global_pool}} before it: {c * row.output[0]:,} weights instead",
        )
