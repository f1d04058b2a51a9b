"""What an exporter leaves to be computed from constants alone: shapes, mostly, and weights turned round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.export.onnx_import.read import OnnxNode, plain

Array = NDArray[Any]
#: Numbers that a computed constant may have: a stranger's file cannot ask for more memory than a large layer takes.
LARGEST = 1 << 28


class TooLarge(Exception):
    """A constant would have more numbers than ``LARGEST``."""


def fold(n: OnnxNode, ins: Sequence[Array | None]) -> Array | None:
    """The one result of a node whose inputs are all known; None where the op is not one that is computed here.

    Raises TooLarge, and ValueError, IndexError or TypeError for what does not go together.
    """
    made = FOLDS.get(n.op)
    if made is None:
        return None
    result = np.asarray(made(n, ins))
    _bounded(result.size)
    return plain(result)


def _constant(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    for key, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32),
                       ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if key in n.attrs:
            return np.asarray(n.attrs[key], dtype)
    raise ValueError("a constant of text")


def axes_of(n: OnnxNode, ins: Sequence[Array | None], at: int = 1) -> tuple[int, ...] | None:
    """``axes``, which once was an attribute and now is an input."""
    if "axes" in n.attrs:
        return tuple(int(axis) for axis in n.attrs["axes"])
    given = ins[at] if len(ins) > at else None
    return None if given is None else tuple(int(axis) for axis in given.reshape(-1))


def _squeeze(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    return np.squeeze(_first(ins), axes_of(n, ins))


def _unsqueeze(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    return np.expand_dims(_first(ins), axes_of(n, ins) or ())


def _slice(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    x = _first(ins)
    return x[slices(n, ins, x.ndim)]


def slices(n: OnnxNode, ins: Sequence[Array | None], ndim: int) -> tuple[slice, ...]:
    """What a Slice takes of each axis."""
    if "starts" in n.attrs:
        starts, ends = n.attrs["starts"], n.attrs["ends"]
        axes, steps = n.attrs["axes"] if "axes" in n.attrs else range(len(starts)), [1] * len(starts)
    else:
        parts = [None if a is None else [int(v) for v in a.reshape(-1)] for a in [*ins[1:], None, None][:4]]
        if parts[0] is None or parts[1] is None:
            raise ValueError("starts and ends belong to a slice")
        starts, ends = parts[0], parts[1]
        axes, steps = parts[2] or range(len(starts)), parts[3] or [1] * len(starts)
    taken = [slice(None)] * ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # -n or less ends, backwards, before the first one.
        taken[axis % ndim] = slice(start, None if step < 0 and end <= -(1 << 31) else end, step)
    return tuple(taken)


def resolved(shape: Sequence[int], before: Sequence[int], allow_zero: bool = False) -> tuple[int, ...]:
    """The shape that a Reshape gives: 0 stands for the axis as it was, -1 for what is left."""
    dims = [before[i] if d == 0 and not allow_zero else int(d) for i, d in enumerate(shape)]
    if -1 in dims:
        known = prod(d for d in dims if d != -1)
        dims[dims.index(-1)] = prod(before) // known if known else 0
    if prod(dims) != prod(before):
        raise ValueError(f"{list(before)} does not become {list(shape)}")
    return tuple(dims)


def _reshape(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    x, shape = _first(ins), ins[1]
    if shape is None:
        raise ValueError("no shape")
    return x.reshape(resolved(shape.tolist(), x.shape, bool(n.attr("allowzero", 0))))


def _transpose(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    return np.transpose(_first(ins), n.attrs.get("perm"))


def _filled(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    shape = tuple(int(d) for d in _first(ins).reshape(-1))
    _bounded(prod(shape))
    value = np.asarray(n.attrs["value"] if "value" in n.attrs else np.float32(0)).reshape(-1)
    return np.full(shape, value[0])


def _expand(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    x, target = (np.asarray(a) for a in ins[:2])
    shape = np.broadcast_shapes(x.shape, tuple(int(d) for d in target))
    _bounded(prod(shape))
    return np.broadcast_to(x, shape)


def _range(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    start, stop, step = (np.asarray(a).reshape(-1)[0] for a in ins)
    _bounded(int(abs(stop - start) / max(abs(step), 1e-9)))
    return np.arange(start, stop, step)


def _cast(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    kinds: Mapping[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float32}
    if n.attrs["to"] not in kinds:
        raise ValueError("a type that is not computed with")
    return _first(ins).astype(kinds[n.attrs["to"]])


def _div(a: Array, b: Array) -> Array:
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b


def _concat(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    arrays = [np.asarray(a) for a in ins]
    _bounded(sum(a.size for a in arrays))
    return np.concatenate(arrays, n.attrs["axis"])


def _gather(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    x, indices, axis = _first(ins), np.asarray(ins[1]), n.attr("axis", 0)
    _bounded(x.size // max(1, x.shape[axis]) * indices.size)
    return np.take(x, indices, axis)


def _product(n: OnnxNode, ins: Sequence[Array | None]) -> Array:
    return np.asarray(np.prod(_first(ins), axis=axes_of(n, ins), keepdims=bool(n.attr("keepdims", 1))))


def _each(function: Callable[..., Any]) -> Callable[[OnnxNode, Sequence[Array | None]], Any]:
    def computed(n: OnnxNode, ins: Sequence[Array | None]) -> Any:
        arrays = [np.asarray(a) for a in ins]
        _bounded(prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        return function(*arrays)

    return computed


def _bounded(size: int) -> None:
    if size > LARGEST:
        raise TooLarge


def _first(ins: Sequence[Array | None]) -> Array:
    if not ins or ins[0] is None:
        raise ValueError("no input")
    return ins[0]


FOLDS: Mapping[str, Callable[[OnnxNode, Sequence[Array | None]], Any]] = {
    "Constant": _constant, "ConstantOfShape": _filled, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Slice": _slice,
    "Reshape": _reshape, "Transpose": _transpose, "Expand": _expand, "Range": _range, "Cast": _cast,
    "Concat": _concat, "Gather": _gather, "ReduceProd": _product, "Identity": _each(lambda a: a),
    "Add": _each(np.add), "Sub": _each(np.subtract), "Mul": _each(np.multiply), "Div": _each(_div),
    "Floor": _each(np.floor), "Ceil": _each(np.ceil), "Sqrt": _each(np.sqrt), "Neg": _each(np.negative),
    "Reciprocal": _each(np.reciprocal), "Pow": _each(np.power), "Exp": _each(np.exp), "Equal": _each(np.equal),
    "Where": _each(np.where),
}  # fmt: skip
