"""Convolutions: which way each is computed."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from cnnforge.backends.numba.rules import bias, direct, samples
from cnnforge.backends.numba.rules.base import THREADS, Rule
from cnnforge.backends.numba.rules.linear import BOUNDS
from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.op import Scratch

#: Winograd convolution: partial sums of a weight's gradient.
WINOGRAD_SHARDS = 8

#: Into how many parts a batch is cut for a weight gradient, and floats that all their sums may take together.
#: Fixed numbers, so that the order of adding up, and with it the result, is the same for any number of threads.
SHARDS, SUMS = 16, 1 << 19


def shards(floats: int) -> int:
    """Parts of a batch for a gradient of so many floats."""
    return max(1, min(SHARDS, SUMS // floats))


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


def winograd_tiles(c: int) -> int:
    """Tiles that are transformed together: the transformed patches of ``c`` channels take about 200 KiB."""
    return min(96, max(24, 1536 // c // 6 * 6))


def _is_winograd(x: Any, w: Any, y: Any, attrs: Mapping[str, Any]) -> bool:
    """3x3, stride 1, enough channels for whole vectors, and fewer products than the direct way takes."""
    win = attrs["window"]
    tiles = -(-win.out[0] // 4) * -(-win.out[1] // 4)
    return (
        (win.kernel, win.stride, win.dilation, win.transposed) == ((3, 3), (1, 1), (1, 1), False)
        and attrs["groups"] == 1
        and min(w.shape[2:]) >= 16
        and 36 * tiles < 9 * win.out[0] * win.out[1]
    )


def _winograd_space(c: int) -> Scratch:
    """Of each thread: patches; the products of a group of tiles with 32 filters; the group's transformed patches."""
    tiles = winograd_tiles(c)
    return Scratch((THREADS, 36, 16 * 16 + (tiles * 32 + 16) + (tiles * c + 16)), "float32", False)


def _winograd(c: int, f: int) -> tuple[Scratch, ...]:
    """Transformed weights; then each thread's own."""
    return Scratch((36, c, direct.padded(f)), "float32", False), _winograd_space(c)


def _winograd_dw(c: int, f: int) -> tuple[Scratch, ...]:
    """Partial sums of the transformed weights' gradient; then each thread's own."""
    return Scratch((WINOGRAD_SHARDS, 36, c, direct.padded(f)), "float32", False), _winograd_space(c)


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
    found = ["winograd"] if _is_winograd(x, w, y, attrs) else []
    if samples.fits(x.shape, w.shape, attrs):
        # Lanes are samples: good where there are many of them, and where channels fill no vectors.
        narrow = min(w.shape[2:]) < samples.SAMPLES and x.shape[0] >= samples.SAMPLES // 2
        return ("samples", *found, "direct") if narrow else (*found, "direct", "samples")
    return (*found, "direct")


def _space(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    x, w, _ = _named(op, ins, outs)
    c, f = w.shape[2:]
    if attrs["way"] == "depthwise":
        return (Scratch((SHARDS, *w.shape), "float32", False),) if op == "conv2d_dw" else ()
    if attrs["way"] == "samples":
        if op == "conv2d":
            return (samples.forward_space(x.shape, attrs["window"], f),)
        space = samples.backward_space(x.shape, attrs["window"], f)
        return (samples.sums(w.shape), space) if op == "conv2d_dw" else (space,)
    if attrs["way"] == "winograd":
        return _winograd_dw(c, f) if op == "conv2d_dw" else _winograd(c, f) if op == "conv2d" else _winograd(f, c)
    return _direct(op, x, w, attrs)


def _biased_ways(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    return _ways("conv2d", ins, outs, attrs["parts"][0][2])


def _biased_space(
    op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> tuple[Scratch, ...]:
    """What the convolution needs; then the bias where it comes after it."""
    way = attrs["way"]
    space = _space("conv2d", ins, outs, {**attrs["parts"][0][2], "way": way})
    after = way == "depthwise" or (way == "samples" and BIASED[op][1] < inf)
    return (*space, *bias.band(outs[0])) if after else space


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
}
