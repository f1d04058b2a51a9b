"""What the numba backend can do. Imports no Numba and no NumPy: planning reads only this.

A node runs natively where ``is_native`` says so, else by the numpy backend's kernel, and is planned accordingly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import gcd, prod
from typing import Any

from cnnforge.backends.numpy import capabilities as numpy
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import Capabilities
from cnnforge.shapes import Window

#: Threads that kernels may be spread over: workspace that each needs for itself is planned for so many.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

#: Parts that a norm's sums over the batch are cut into, whatever the threads: the results are then the same to the bit.
NORM_SHARDS = 32

#: Winograd convolution: partial sums of a weight's gradient, and its channels summed side by side.
WINOGRAD_SHARDS, WINOGRAD_ROWS = 8, 4

Choice = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], bool]
Rule = Callable[[tuple[Any, ...], tuple[Any, ...], Mapping[str, Any]], tuple[Scratch, ...]]


def _always(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    return True


#: Into how many parts a batch is cut for weight gradients: few for large kernels, whose sums take memory.
#: Fixed numbers, so that the order of adding up, and with it the result, is the same for any number of threads.
SHARDS, SHARDS_OF_LARGE, LARGE = 16, 8, 1 << 16


def column_rows(w: Window) -> int:
    """Rows of the padded sample in each remainder modulo the stride, as a convolution unrolls them."""
    return -(-((w.out[0] - 1) * w.stride[0] + w.extent[0]) // w.stride[0])


def _conv_choice(w: tuple[int, ...], attrs: Mapping[str, Any]) -> bool:
    """One group, or as many as channels and filters.  w: (KH, KW, C/groups, F)."""
    groups = attrs["groups"]
    return bool(groups == 1 or (numpy.is_depthwise(w, groups) and w[3] == groups))


def _columns(c: int, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Each thread's unrolled sample of ``c`` channels, where the input as it lies will not do."""
    w = attrs["window"]
    if attrs["groups"] > 1 or numpy.is_pointwise(w):
        return ()
    return (Scratch((THREADS, w.stride[0] * column_rows(w), w.out[1], w.kernel[1] * c), "float32", False),)


def _conv_dw(dw: Value, attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """A sum for each shard; then the columns."""
    shards = SHARDS if prod(dw.shape) <= LARGE else SHARDS_OF_LARGE
    return Scratch((shards, *dw.shape), dw.dtype, False), *_columns(dw.shape[2], attrs)


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
    """Of each thread: a patch; the products of a group of tiles with 16 filters; the group's transformed patches."""
    tiles = winograd_tiles(c)
    return Scratch((THREADS, 36, 16 + (tiles * 16 + 16) + (tiles * c + 16)), "float32", False)


def _winograd(c: int, f: int) -> tuple[Scratch, ...]:
    """Transformed weights; then each thread's own."""
    return Scratch((36, -(-f // 16), c, 16), "float32", False), _winograd_space(c)


def _winograd_dw(c: int, f: int) -> tuple[Scratch, ...]:
    """Partial sums of the transformed weights' gradient; then each thread's own."""
    rows = -(-c // WINOGRAD_ROWS)
    sums = (WINOGRAD_SHARDS, 36, -(-f // 16), rows, WINOGRAD_ROWS, 16)
    return Scratch(sums, "float32", False), _winograd_space(c)


def convolution(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> str:
    """The way a convolution or one of its gradients is computed: ``winograd``, ``gemm``, or "" for NumPy's."""
    x, w, y = {
        "conv2d": lambda: (ins[0], ins[1], outs[0]),
        "conv2d_dx": lambda: (outs[0], ins[1], ins[0]),
        "conv2d_dw": lambda: (ins[0], outs[0], ins[1]),
    }[op]()
    if _is_winograd(x, w, y, attrs):
        return "winograd"
    return "gemm" if _conv_choice(w.shape, attrs) else ""


def _convolution_space(
    op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> tuple[Scratch, ...]:
    w = outs[0] if op == "conv2d_dw" else ins[1]
    c, f = w.shape[2:]
    if convolution(op, ins, outs, attrs) == "winograd":
        return _winograd_dw(c, f) if op == "conv2d_dw" else _winograd(c, f) if op == "conv2d" else _winograd(f, c)
    return _conv_dw(w, attrs) if op == "conv2d_dw" else _columns(c, attrs)


CONVOLUTIONS = ("conv2d", "conv2d_dx", "conv2d_dw")


def row_width(channels: int) -> int:
    """Elements of a row for loops over channels: of few channels as many copies as make up whole vectors."""
    return channels if channels >= 64 else channels * 32 // gcd(channels, 32)


def _shard_sums(count: int, x: Any) -> Scratch:
    """``count`` rows per shard; the first C of each row are the sums, the rest is room for the loops."""
    return Scratch((NORM_SHARDS, count, row_width(x.shape[-1])), x.dtype, False)


def _rows(count: int, x: Any) -> Scratch:
    return Scratch((count, row_width(x.shape[-1])), x.dtype, False)


#: Ops with native kernels -> for which shapes and attributes. Of a shape only what is the same for every batch counts.
CHOICES: dict[str, Choice] = {
    "reshape": _always, "relu": _always, "relu_dx": _always, "add": _always,
    "matmul": _always, "matmul_dx": _always, "matmul_dw": _always,
    **dict.fromkeys(
        ("batch_norm", "batch_norm_inference", "batch_norm_dparams", "batch_norm_dx", "batch_norm_running"), _always
    ),
    **{op: lambda i, o, a, op=op: bool(convolution(op, i, o, a)) for op in CONVOLUTIONS},  # type: ignore[misc]
}  # fmt: skip

#: Workspace of native kernels, where they need any.
SCRATCH: dict[str, Rule] = {
    "batch_norm": lambda i, o, a: (_shard_sums(4, i[0]), _rows(3, i[0])),
    "batch_norm_inference": lambda i, o, a: (_rows(3, i[0]),),
    "batch_norm_dparams": lambda i, o, a: (_shard_sums(3, i[0]),),
    "batch_norm_dx": lambda i, o, a: (_rows(4, i[0]),),
    **{op: lambda i, o, a, op=op: _convolution_space(op, i, o, a) for op in CONVOLUTIONS},  # type: ignore[misc]
}


def is_native(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> bool:
    """Does a compiled kernel run this node, all parts of a chain? ``ins`` and ``outs``: values or arrays."""
    if "+" in op:
        return all(is_native(part, *read, attrs) for part, read, attrs in parts_of(ins, outs, attrs))
    return op in CHOICES and str(outs[0].dtype) == "float32" and CHOICES[op](ins, outs, attrs)


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a fused node needs what its parts need in the order of the chain."""
    if "+" not in op:
        if is_native(op, ins, outs, attrs):
            rule = SCRATCH.get(op)
            return rule(ins, outs, attrs) if rule else ()
        return numpy.scratch(op, ins, outs, attrs)
    return sum((scratch(part, *read, part_attrs) for part, read, part_attrs in parts_of(ins, outs, attrs)), ())


def parts_of(
    ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[tuple[Any, ...], tuple[Any, ...]], Mapping[str, Any]]]:
    """Each part of a chain with what it reads and writes: the first writes the output, the others overwrite it."""
    taken = 0
    for op, extra, part_attrs in attrs["parts"]:
        first = ins[:extra] if not taken else (outs[0], *ins[taken : taken + extra])
        yield op, (first, outs), part_attrs
        taken += extra


def capabilities() -> Capabilities:
    """The numpy backend's, with our own workspace."""
    return replace(
        numpy.capabilities(), name="numba", precisions=("float32", "float64"), scratch=scratch, native=is_native
    )
