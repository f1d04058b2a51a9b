"""Convolution and its gradients: by cuDNN where it is installed (``library.py``), else by kernels of our own.

Shapes: x (N, H, W, C), w (KH, KW, C/G, F), y (N, OH, OW, F) for G groups. A 1x1 convolution of stride 1 is a matrix
product (cuBLAS's); one channel per group goes directly (``source/depthwise.cuh``); everything else is an implicit
product (``source/conv.cuh``). Gradients of weights are summed over several parts of the positions at once, and the
parts then in their order, so that they are the same in every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy import library
from cnnforge.backends.cupy.activation import apply
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, Instead, Queued, ScratchRule, chain, each
from cnnforge.backends.cupy.linear import THREADS, TILE, product
from cnnforge.backends.cupy.signature import wide
from cnnforge.backends.cupy.tail import NOTHING, Tail
from cnnforge.backends.numpy.capabilities import is_depthwise, is_pointwise
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.shapes import Window

#: Blocks that keep a large card busy; and positions of y that are worth a block of their own.
BUSY, POSITIONS = 512, 512


@dataclass(frozen=True, slots=True)
class Tile:
    """What one block makes: so many rows and columns. source: the file of kernels that is compiled for it"""

    source: str
    rows: int
    columns: int

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        """Blocks that make a matrix."""
        return -(-rows // self.rows), -(-columns // self.columns)


#: Narrow ones, so that few filters leave no thread idle; and a large one, in which a thread does the most with what it
#: reads, for matrices that give enough blocks of it.
NARROW = (Tile("conv16", 128, 16), Tile("conv32", 128, 32))
SQUARE, LARGE = Tile("conv", TILE, TILE), Tile("conv128", 128, 128)


def _geometry(x: Array, y: Array, window: Window, groups: int, flip: bool) -> tuple[int, ...]:
    """What ``IMAGES, WINDOW`` stand for in ``source/window.cuh``."""
    return (
        *x.shape[1:], *y.shape[1:], *window.kernel, *window.stride, *window.dilation, window.pads[0], window.pads[2],
        groups, int(flip),
    )  # fmt: skip


def _as_matrix(array: Array) -> Array:
    """Every position a row; weights of a 1x1 convolution a row for every channel."""
    return array.reshape(-1, array.shape[-1])


def _tile(rows: int, columns: int, matrices: int) -> Tile:
    """The shape of tile for this many matrices of one size."""
    narrow = next((tile for tile in NARROW if columns <= tile.columns), None)
    if narrow is not None:
        return narrow
    large = columns > SQUARE.columns and prod(LARGE.grid(rows, columns)) * matrices >= BUSY
    return LARGE if large else SQUARE


def _splits(w: tuple[int, ...], rows: int, groups: int) -> int:
    """In how many parts the positions of y are summed at a time.  w: (KH, KW, C/G, F)"""
    if is_depthwise(w, groups):
        blocks = -(-w[3] // 32) * w[0] * w[1]
    else:
        blocks = prod(_dw_tile(w, groups).grid(prod(w[:3]), w[3] // groups)) * groups
    return max(1, min(BUSY // blocks, -(-rows // POSITIONS), 65535 // groups))


def _dw_tile(w: tuple[int, ...], groups: int) -> Tile:
    """Positions are cut into as many parts as it takes to keep a card busy, so that tiles may be large."""
    return _tile(prod(w[:3]), w[3] // groups, BUSY)


def _conv2d(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, groups: int, flip: bool, tf32: bool,
    then: Tail,
) -> Step:  # fmt: skip
    """x, w -> y."""
    (x, w), (y,) = ins, outs
    if groups == 1 and is_pointwise(window):
        return product(device, _as_matrix(x), _as_matrix(w), _as_matrix(y), tf32=tf32, then=then)
    geometry = _geometry(x, y, window, groups, flip)
    if is_depthwise(w.shape, groups):
        return each(device, "depthwise", "depthwise", y.size, (x, w, y, y.size, *geometry), then)
    rows = prod(y.shape[:3])
    tile = _tile(rows, y.shape[3] // groups, groups)
    grid = (*tile.grid(rows, y.shape[3] // groups), groups)
    return device.launch(tile.source, "conv2d", grid, (THREADS,), (x, w, y, rows, *geometry), then)


def _conv2d_dx(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, groups: int, flip: bool, tf32: bool,
    then: Tail,
) -> Step:  # fmt: skip
    """dy, w -> dx."""
    (dy, w), (dx,) = ins, outs
    if groups == 1 and is_pointwise(window):
        return product(device, _as_matrix(dy), _as_matrix(w), _as_matrix(dx), turn_b=True, tf32=tf32, then=then)
    geometry = _geometry(dx, dy, window, groups, flip)
    if is_depthwise(w.shape, groups):
        return each(device, "depthwise", "depthwise_dx", dx.size, (dy, w, dx, dx.size, *geometry), then)
    rows = prod(dx.shape[:3])
    tile = _tile(rows, dx.shape[3] // groups, groups)
    grid = (*tile.grid(rows, dx.shape[3] // groups), groups)
    return device.launch(tile.source, "conv2d_dx", grid, (THREADS,), (dy, w, dx, rows, *geometry), then)


def _conv2d_dw(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, groups: int, flip: bool, tf32: bool,
    then: Tail,
) -> Step:  # fmt: skip
    """x, dy -> dw, summed over the batch. Nothing follows it."""
    assert not then.functions, "no chain begins with the gradient of weights"
    (x, dy), (dw,) = ins, outs
    if groups == 1 and is_pointwise(window):
        return product(device, _as_matrix(x), _as_matrix(dy), _as_matrix(dw), turn_a=True, tf32=tf32)
    (parts,) = scratch
    splits, rows = parts.shape[0], prod(dy.shape[:3])
    positions = -(-rows // splits)
    geometry = _geometry(x, dy, window, groups, flip)
    if is_depthwise(dw.shape, groups):
        grid = (-(-dw.shape[3] // 32), prod(window.kernel), splits)
        summed = device.launch("depthwise", "depthwise_dw", grid, (32, 8), (x, dy, parts, rows, positions, *geometry))
    else:
        tile = _dw_tile(dw.shape, groups)
        grid = (*tile.grid(prod(dw.shape[:3]), dw.shape[3] // groups), groups * splits)
        arguments = (x, dy, parts, rows, splits, positions, *geometry)
        summed = device.launch(tile.source, "conv2d_dw", grid, (THREADS,), arguments)
    return chain((summed, each(device, "linear", "sum_parts", dw.size, (parts, dw, dw.size, splits))))


def _dw_scratch(ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """The gradient of each part of the positions."""
    w, dy = outs[0].shape, ins[1]
    if attrs["groups"] == 1 and is_pointwise(attrs["window"]):
        return ()
    return (Scratch((_splits(w, prod(dy.shape[:3]), attrs["groups"]), *w), wide(dy.dtype), False),)


_OWN: dict[str, DeviceKernel] = {"conv2d": _conv2d, "conv2d_dx": _conv2d_dx, "conv2d_dw": _conv2d_dw}


def _own_scratch(op: str, ins: tuple[Any, ...], outs: tuple[Any, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    return _dw_scratch(ins, outs, attrs) if op == "conv2d_dw" else ()


def _kernel(op: str) -> DeviceKernel:
    """By the way that the node names; where the library has no such plan, by kernels of our own in its workspace."""

    def bind(
        device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, *, window: Window, groups: int, flip: bool,
        tf32: bool = False, way: str = library.OWN, then: Tail = NOTHING,
    ) -> Step:  # fmt: skip
        own: dict[str, Any] = {"window": window, "groups": groups, "flip": flip, "tf32": tf32, "then": then}
        if way not in library.LIBRARY:
            return _OWN[op](device, ins, outs, scratch, **own)
        step = library.convolution(device, op, ins, outs, scratch, way, window=window, flip=flip, tf32=tf32)
        if step is not None:
            return chain((step, apply(device, outs[0], outs[0], then))) if then.functions else step
        attrs = {"window": window, "groups": groups}
        space = library.own_scratch(device, scratch[1], _own_scratch(op, ins, outs, attrs))
        step = _OWN[op](device, ins, outs, space, **own)
        return Instead(step, step.launches if isinstance(step, Queued) else 1)

    return bind


def _scratch(op: str) -> ScratchRule:
    def rule(ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
        own = _own_scratch(op, ins, outs, attrs)
        return library.scratch(op, ins, outs, own) if attrs.get("way") in library.LIBRARY else own

    return rule


KERNELS: dict[str, DeviceKernel] = {op: _kernel(op) for op in _OWN}
SCRATCH: dict[str, ScratchRule] = {op: _scratch(op) for op in _OWN}
