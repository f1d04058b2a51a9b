"""Convolutions: which way each is computed."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, prod
from typing import Any

from cnnforge.backends.numba.rules import bias, direct, norm, samples
from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.backends.numba.rules.linear import BOUNDS
from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.op import Scratch

#: Into how many parts a batch is cut for a weight gradient, and floats that all their sums may take together.
#: Fixed numbers, so that the order of adding up, and with it the result, is the same for any number of threads.
SHARDS, SUMS = 16, 1 << 19
#: The same for Winograd convolution, whose sums are four times as large.
WINOGRAD_SHARDS = 8, 1 << 21
#: Tiles below which Winograd's way is no good guess: with C = F = 512, one takes 7 times as long as directly.
FEW_TILES = 8


def shards(floats: int, most: int = SHARDS, sums: int = SUMS) -> int:
    """Parts of a batch for a gradient of so many floats."""
    return max(1, min(most, sums // floats))


def is_depthwise(w: tuple[int, ...], groups: int) -> bool:
    """One channel and one filter in each group.  w: (KH, KW, C/groups, F)."""
    return numpy.is_depthwise(w, groups) and w[3] == groups


def _direct(op: str, x: Any, w: Any, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Packed weights, or sums for each shard; then each thread's own: a padded copy of a piece's input, where there is
    one, and for the weights' gradient its dy in panels."""
    win, groups, f = attrs["window"], attrs["groups"], w.shape[3]
    back = op == "conv2d_dx"
    at = direct.walk(tuple(x.shape[1:3]), f if back else x.shape[3], win, attrs["flip"], back)
    copies = (Scratch((THREADS, at.copy), "float32", False),) if at.copied else ()
    if op != "conv2d_dw":
        return Scratch((direct.packed(w.shape, groups, back),), "float32", False), *copies
    size = direct.sums(w.shape, groups)
    panels = at.positions * groups * direct.padded(f // groups)
    return (
        Scratch((shards(size), size), "float32", False), *copies, Scratch((THREADS, panels), "float32", False),
    )  # fmt: skip


def _depthwise(op: str, x: Any, w: Any, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Packed weights, or sums for each shard and as many again as a tile of taps may have too many; then each thread's
    padded copy of a piece's input, where there is one."""
    at = direct.depthwise_walk(tuple(x.shape[1:3]), w.shape[3], attrs["window"], attrs["flip"], op == "conv2d_dx")
    copies = (Scratch((THREADS, at.copy), "float32", False),) if at.copied else ()
    taps, columns = w.shape[0] * w.shape[1], direct.padded(w.shape[3])
    if op == "conv2d_dw":
        return Scratch((SHARDS, taps + 8, columns), "float32", False), *copies
    return Scratch((taps, columns), "float32", False), *copies


def tile_rows(size: int) -> int:
    """Tiles that cover ``size`` rows or columns."""
    return -(-size // 4)


def _way(tiles: int) -> str:
    return f"winograd{tiles}"


#: Winograd's way with so many tiles transformed together. Of few channels a group has to be large for products of a few
#: blocks, of many it has to be small to stay in the cache. Larger ones are for the weights' gradient, whose sums are
#: read and written again for every group.
TILES = {_way(tiles): tiles for tiles in (8, 16, 24, 32, 64)}
_TILES, _TILES_DW = (8, 16, 24, 32), (32, 64, 16)


def winograd_rows(way: str, columns: int) -> int:
    """Rows of tiles that are transformed together."""
    return max(1, TILES[way] // tile_rows(columns))


def _winograd_ways(op: str, c: int, columns: int) -> tuple[str, ...]:
    """The best guess first, and no two that are the same for maps of so many columns."""
    guess = 32 if c < 32 else 16 if c <= 128 else 24
    order = _TILES_DW if op == "conv2d_dw" else sorted(_TILES, key=lambda tiles: tiles != guess)
    first = {winograd_rows(_way(tiles), columns): _way(tiles) for tiles in reversed(order)}
    return tuple(first[rows] for rows in dict.fromkeys(winograd_rows(_way(tiles), columns) for tiles in order))


def _is_winograd(x: Any, w: Any, y: Any, attrs: Mapping[str, Any]) -> bool:
    """3x3, stride 1, enough channels for whole vectors, and fewer products than the direct way takes."""
    win = attrs["window"]
    tiles = tile_rows(win.out[0]) * tile_rows(win.out[1])
    return (
        (win.kernel, win.stride, win.dilation, win.transposed) == ((3, 3), (1, 1), (1, 1), False)
        and attrs["groups"] == 1
        and min(w.shape[2:]) >= 16
        and 36 * tiles < 9 * win.out[0] * win.out[1]
    )


def _winograd_space(c: int, columns: int, rows: int) -> Scratch:
    """Of each thread: rows of x with padding; the products of a group of tiles with 32 filters; the group's
    transformed patches."""
    across = tile_rows(columns)
    tiles = rows * across
    band = max(6 * (4 * across + 2) * c, 36 * 16 * 16)
    return Scratch((THREADS, band + 36 * (tiles * 32 + 16) + 36 * (tiles * c + 16)), "float32", False)


def _winograd(op: str, way: str, c: int, f: int, columns: int) -> tuple[Scratch, ...]:
    """Transformed weights, or for their gradient partial sums of it; then each thread's own."""
    if op == "conv2d_dw":
        sums = 36, c, direct.padded(f)
        first = Scratch((shards(prod(sums), *WINOGRAD_SHARDS), *sums), "float32", False)
    else:
        c, f = (f, c) if op == "conv2d_dx" else (c, f)
        first = Scratch((36, c * direct.padded(f) + 16), "float32", False)
    return first, _winograd_space(c, columns, winograd_rows(way, columns))


def _named(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """(x, w, y) of a convolution, or those that have their shapes."""
    if op == "conv2d":
        return ins[0], ins[1], outs[0]
    return (outs[0], ins[1], ins[0]) if op == "conv2d_dx" else (ins[0], outs[0], ins[1])


def _ways(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a convolution or one of its gradients can be computed, the best guess first."""
    x, w, y = _named(op, ins, outs)
    if is_depthwise(w.shape, attrs["groups"]):
        return ("depthwise",)
    found = ["direct"]
    if samples.fits(x.shape, w.shape, attrs):
        # Lanes are samples: good where there are many of them, and where channels leave much of a vector empty.
        channels = w.shape[2 if op == "conv2d_dx" else 3]
        empty = 1 - channels / direct.padded(channels)
        found.insert(0 if empty > 1 / 8 and x.shape[0] >= samples.SAMPLES // 2 else 1, "samples")
    if _is_winograd(x, w, y, attrs):
        # For few tiles transforming the weights costs more than it saves.
        columns = (x if op == "conv2d_dx" else y).shape[2]
        tiles = x.shape[0] * tile_rows(y.shape[1]) * tile_rows(y.shape[2])
        at = 0 if tiles >= FEW_TILES else 1
        found[at:at] = _winograd_ways(op, w.shape[3 if op == "conv2d_dx" else 2], columns)
    return tuple(found)


def _space(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    x, w, y = _named(op, ins, outs)
    c, f = w.shape[2:]
    if attrs["way"] == "depthwise":
        return _depthwise(op, x, w, attrs)
    if attrs["way"] == "samples":
        if op == "conv2d":
            return (samples.forward_space(x.shape, attrs["window"], f),)
        space = samples.backward_space(x.shape, attrs["window"], f)
        return (samples.sums(w.shape), space) if op == "conv2d_dw" else (space,)
    if attrs["way"] in TILES:
        return _winograd(op, attrs["way"], c, f, (x if op == "conv2d_dx" else y).shape[2])
    return _direct(op, x, w, attrs)


def _biased_ways(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    return _ways("conv2d", ins, outs, attrs["parts"][0][2])


def _biased_space(
    op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> tuple[Scratch, ...]:
    """What the convolution needs; then the bias where it comes after it."""
    way = attrs["way"]
    space = _space("conv2d", ins, outs, {**attrs["parts"][0][2], "way": way})
    return (*space, *bias.band(outs[0])) if way == "samples" and BIASED[op][1] < inf else space


def _masked_fuses(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Would both gradients go over samples by themselves?  ins: y, dy, x[, w]; outs: db, dw[, dx]."""
    _, dy, x, *w = ins
    _, dw, *dx = outs
    apart = [("conv2d_dw", (x, dy), (dw,)), *([("conv2d_dx", (dy, *w), tuple(dx))] if dx else [])]
    return all(_ways(op, read, written, attrs["parts"][2][2])[0] == "samples" for op, read, written in apart)


def _normed(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Of a convolution and a norm behind it, what each part's rules ask for: its inputs, outputs and attributes."""
    (_, _, conv), (_, _, own) = attrs["parts"]
    return (ins[:2], outs[:1], conv), ((outs[0], *ins[2:]), outs[1:], own)


def _normed_ways(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    return _ways("conv2d", *_normed(ins, outs, attrs)[0])


def _normed_space(
    op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> tuple[Scratch, ...]:
    """What the convolution needs, then what the norm needs."""
    (read, written, own), rest = _normed(ins, outs, attrs)
    return (*_space("conv2d", read, written, {**own, "way": attrs["way"]}), *norm.RULES[NORMED[op]].scratch(*rest))


def _normed_native(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return norm.RULES[NORMED[op]].native(*_normed(ins, outs, attrs)[1])


#: A convolution whose result's moments are added up while it is in the cache, and the norm that needs them.
NORMED = {f"conv2d+{name}": name for name in norm.RULES if name.split("+")[0] == "batch_norm"}
#: A convolution and what cuts its result, in one pass: floor and ceiling.
BIASED = {f"conv2d{tail}": bounds for tail, bounds in BOUNDS.items()}
CONVOLUTIONS = ("conv2d", "conv2d_dx", "conv2d_dw")

RULES = {
    **{
        op: Rule(
            scratch=lambda i, o, a, op=op: _space(op, i, o, a),  # type: ignore[misc]
            ways=lambda i, o, a, op=op: _ways(op, i, o, a),  # type: ignore[misc]
        )
        for op in CONVOLUTIONS
    },
    **{
        op: Rule(scratch=lambda i, o, a, op=op: _biased_space(op, i, o, a), ways=_biased_ways)  # type: ignore[misc]
        for op in BIASED
    },
    **{
        op: Rule(
            native=lambda i, o, a, op=op: _normed_native(op, i, o, a),  # type: ignore[misc]
            scratch=lambda i, o, a, op=op: _normed_space(op, i, o, a),  # type: ignore[misc]
            ways=_normed_ways,
        )
        for op in NORMED
    },
    **dict.fromkeys(samples.MASKED, Rule(scratch=samples.masked_space, fuses=_masked_fuses)),
}
