"""A net and how it is trained, as plain data: what PyTorch's side is built from, in processes that import none of us.

A recipe is ``{"input": [H, W, C], "classes": n, "optimizer": {...}, "rows": [...]}``; a row is a layer with the numbers
of the rows that it reads (-1: the picture). JSON holds it, so that a fresh process gets it through a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnforge.errors import ConfigError
from cnnforge.optim import Optimizer
from cnnforge.spec import ModelSpec, Row, ending

Recipe = dict[str, Any]


def recipe(spec: ModelSpec, optimizer: Optimizer) -> Recipe:
    """Raises ConfigError for a layer or loss that has no counterpart here."""
    loss = spec.effective_loss
    if loss.type != "softmax_cross_entropy":
        raise _no_counterpart(spec, f"loss {loss.type}")
    rows = [_row(spec, row) for row in spec.table]
    if spec.last_activation == loss.fuses:  # the loss computes it, in PyTorch as here
        rows[-1]["activation"] = "none"
    return {
        "input": list(spec.input),
        "classes": spec.output[-1],
        # One rate and decay for all of a net's parameters, as the recipes here have.
        "optimizer": optimizer.model_dump(exclude={"groups", "decay", "clip"}),
        "rows": rows,
    }


def _row(spec: ModelSpec, row: Row) -> Recipe:
    block: Any = row.block
    made: Recipe = {"type": row.type, "reads": list(row.reads), "activation": ending(block), "c": row.input[-1]}
    if row.window is not None:
        window = row.window
        made |= {"kernel": window.kernel, "stride": window.stride, "pads": window.pads, "dilation": window.dilation}
    match row.type:
        case "conv":
            groups, filters = block.division(row.input)
            made |= {"filters": filters, "groups": groups, "bias": block.bias, "flip": block.flip}
        case "fc":
            made |= {"units": block.units, "bias": block.bias}
        case "pool":
            top, bottom, left, right = row.window.pads  # type: ignore[union-attr]
            if (top, left) != (bottom, right) and (block.mode == "average" or block.ceil_mode):
                raise _no_counterpart(spec, f"layer {row.name}, whose padding differs on opposite sides")
            made |= {"mode": block.mode, "ceil_mode": block.ceil_mode, "count_include_pad": block.count_include_pad}
        case "global_pool":
            made |= {"mode": block.mode}
        case "batch_norm":
            made |= {"epsilon": block.epsilon, "momentum": block.momentum, "flat": len(row.input) == 1}
        case "flatten":
            made |= {"volume": list(row.input)}
        case "activation" if block.function != "prelu":
            made |= {"alpha": block.alpha, "approximate": block.approximate}
        case "dropout":
            made |= {"rate": block.rate}
        case "residual":
            made |= {"type": "merge", "mode": "add"}
        case "branches":
            made |= {"type": "merge", "mode": block.merge}
        case "merge":
            made |= {"mode": block.mode}
        case "shortcut_pad":
            made |= {"channels": block.channels, "stride": block.stride}
        case "channel_shuffle":
            made |= {"groups": block.groups}
        case _:
            raise _no_counterpart(spec, f"layer {row.name} of type {row.type}")
    return made


def _no_counterpart(spec: ModelSpec, what: str) -> ConfigError:
    return ConfigError(
        f"benchmarks know no PyTorch counterpart of {what}",
        where=f"model {spec.name}",
        why="both sides must run the same net",
        fix="another net, or a case for it in benchmarks/recipe.py and benchmarks/torch_net.py",
    )


def draws(spec: ModelSpec) -> bool:
    """Does the net draw random numbers while training? The two sides then draw different ones."""
    return any(row.type == "dropout" and getattr(row.block, "rate", 0) for row in spec.table)


def noise(input_shape: tuple[int, ...] | list[int], classes: int, batch: int) -> tuple[Any, Any]:
    """Pictures (N, H, W, C) float32 and labels (N,) int64; what is in a picture does not change the time."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, *input_shape), np.float32), rng.integers(0, classes, batch)


#: Our short names in PyTorch's words.
WORDS = {"w": "weight", "gamma": "weight", "b": "bias", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def torch_arrays(spec: ModelSpec, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Our weights, statistics or gradients under the names and in the layouts of ``torch_net.Net``.

    A convolution's (KH, KW, C, F) becomes (F, C, KH, KW), an fc's (in, units) becomes (units, in). A flattened volume
    has its channels first in PyTorch and last here, so an fc (or a norm) behind it takes its inputs in another order.
    """
    made: dict[str, Any] = {}
    orders: list[Any] = []
    for i, row in enumerate(spec.table):
        order = orders[row.reads[0]] if row.reads[0] >= 0 else None
        if row.type == "flatten" and len(row.input) == 3:
            order = np.arange(row.activation_size).reshape(row.input).transpose(2, 0, 1).reshape(-1)
        for short in (*row.params, *row.state):
            name = f"{row.name}.{short}"
            if name in arrays:
                array = _laid_out(np.asarray(arrays[name]), row, short, order)
                made[f"rows.{i}.layer.{WORDS[short]}"] = np.ascontiguousarray(array)
        orders.append(None if row.type == "fc" else order)
    return made


def _laid_out(array: Any, row: Row, short: str, order: Any) -> Any:
    if row.type == "conv" and short == "w":
        turned = array[::-1, ::-1] if getattr(row.block, "flip", False) else array
        return turned.transpose(3, 2, 0, 1)
    if row.type == "fc":
        return array if short == "b" else (array if order is None else array[order]).T
    return array if order is None else array[order]
