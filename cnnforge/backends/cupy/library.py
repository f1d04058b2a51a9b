"""Convolutions by cuDNN: which, in what memory, and how our weights are laid out for it.

A node's way is ``cudnn`` for the plan that cuDNN advises, ``cudnn 2`` and so on for the next, and ``own`` for kernels
of our own. cuDNN wants weights as (F, KH, KW, C/G) and ours lie as (KH, KW, C/G, F): they are turned before each
product, a flipped kernel's taps reversed on the way, and their gradient is turned back. cuDNN takes the strides of our
layout as well, but its answers show that it reads them as its own: it must not be given them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.convolution import EPILOGUE, describe
from cnnforge.backends.cupy.device import Arrays, Device, chain
from cnnforge.backends.numpy.capabilities import is_depthwise, is_pointwise
from cnnforge.ir.graph import DTYPE_BYTES, Value
from cnnforge.ir.op import Scratch
from cnnforge.shapes import Window

OWN = "own"
#: How many of cuDNN's plans are tried.
PLANS = 4
LIBRARY = tuple("cudnn" if n == 0 else f"cudnn {n + 1}" for n in range(PLANS))
#: What it is asked for: float64 is for checking, and our own kernels are more easily read.
DTYPES = ("float32", "bfloat16", "float16")
#: What can stand behind conv2d in one kernel. Without a bias it has only plans that it compiles itself.
FUSED = (("bias",), ("bias", "relu"), ("bias", "add"), ("bias", "add", "relu"))
#: Bytes of workspace that a plan may take at most, and beside what depends on the sizes.
MOST, BESIDE = 512 << 20, 4 << 20
ALIGN = 256
#: Rows and columns that a block turns, and its threads (see ``source/turn.cuh``).
SIDE, THREADS = 32, (32, 8)

#: (what it reads, what it writes) -> (x, w, y)
_ROLES: Mapping[str, tuple[int, int, int]] = {"conv2d": (0, 1, 2), "conv2d_dx": (2, 1, 0), "conv2d_dw": (0, 2, 1)}


def installed() -> bool:
    """Is cuDNN's frontend there? It is not imported."""
    return importlib.util.find_spec("cudnn") is not None


def roles(op: str, ins: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any, Any]:
    """(x, w, y) of a convolution or a gradient of it, their gradients where it has those."""
    whole = (*ins[:2], outs[0])
    x, w, y = _ROLES[op]
    return whole[x], whole[w], whole[y]


def ways(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what it can be computed, the best guess first; none where there is nothing to choose."""
    x, w, _ = roles(op, ins, outs)
    if x.dtype not in DTYPES or (attrs["groups"] == 1 and is_pointwise(attrs["window"])):
        return ()
    return (OWN, *LIBRARY) if is_depthwise(w.shape, attrs["groups"]) else (*LIBRARY, OWN)


def scratch(
    op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], own: tuple[Scratch, ...]
) -> tuple[Scratch, Scratch]:
    """The turned weights, and workspace: as much as most plans want, and enough for kernels of our own."""
    x, w, y = roles(op, ins, outs)
    space = min(MOST, x.nbytes + y.nbytes + 2 * w.nbytes + BESIDE)
    needed = sum(_room(prod(s.shape) * DTYPE_BYTES[s.dtype]) for s in own)
    return Scratch(w.shape, w.dtype, False), Scratch((max(space, needed),), "uint8", False)


def _room(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def own_scratch(device: Device, space: Array, own: tuple[Scratch, ...]) -> Arrays:
    """Workspace of our own kernels, cut out of the library's."""
    arrays, offset = [], 0
    for wanted in own:
        arrays.append(device.view(space, offset, wanted.shape, str(wanted.dtype)))
        offset += _room(arrays[-1].nbytes)
    return tuple(arrays)


def convolution(
    device: Device, op: str, ins: Arrays, outs: Arrays, scratch: Arrays, way: str, *, window: Window, flip: bool,
    tf32: bool, epilogue: tuple[str, ...] = (), beside: Mapping[str, Array] | None = None,
) -> Step | None:  # fmt: skip
    """The node by one of the library's plans; None where it has no such plan for this workspace.

    epilogue, beside: what is done to y in the same kernel, and what that reads by the name of its op
    """
    x, w, y = roles(op, ins, outs)
    turned, space = scratch
    arrays = {"x": x, "w": turned, "y": y, **(beside or {})}
    if len({str(array.dtype) for array in arrays.values()}) > 1:
        return None
    how = describe(op, x.shape, w.shape, y.shape, window, str(x.dtype), tf32, epilogue)
    step = device.convolution(how, LIBRARY.index(way), [arrays[role] for role, _ in how.operands], space)
    if step is None:
        return None
    kh, kw, c, f = w.shape
    grid = -(-kh * kw * c // SIDE), -(-f // SIDE)
    kernel, read, written = ("turn_back", turned, w) if op == "conv2d_dw" else ("turn", w, turned)
    turn = device.launch("turn", kernel, grid, THREADS, (read, written, kh * kw, c, f, int(flip)))
    return chain((step, turn) if op == "conv2d_dw" else (turn, step))


def fused(
    device: Device, ins: Arrays, outs: Arrays, scratch: Arrays, parts: Sequence[tuple[str, int, Mapping[str, Any]]],
    way: str,
) -> Step | None:  # fmt: skip
    """A chain that begins with conv2d as one kernel of the library; None where it has none.

    A sum is added before the bias there, which only rounds otherwise.
    """
    (head, taken, attrs), *rest = parts
    names = tuple(op for op, _, _ in rest)
    if head != "conv2d" or way not in LIBRARY or names not in FUSED:
        return None
    beside: dict[str, Array] = {}
    for op, extra, _ in rest:
        if extra:
            beside[op] = ins[taken]
        taken += extra
    return convolution(
        device, head, ins[:2], outs, scratch, way, window=attrs["window"], flip=attrs["flip"],
        tf32=attrs.get("tf32", False), epilogue=tuple(op for op in EPILOGUE if op in names), beside=beside,
    )  # fmt: skip
