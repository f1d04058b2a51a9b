"""A recipe's net in PyTorch, as its users write it: torch.nn's layers, in-place rectifiers, channels first.

Imports nothing of cnnforge: a fresh process that measures PyTorch must carry nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU,
    "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "hard_swish": nn.Hardswish, "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "softmax": lambda: nn.Softmax(1),
}  # fmt: skip

#: Behind a layer of the same row these may overwrite what they read: no gradient and no other row asks for it.
IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True), "relu6": lambda: nn.ReLU6(inplace=True),
}  # fmt: skip


class Net(nn.Module):
    """Rows of a recipe; ``rows[i].layer`` holds the weights of row i.  x: (N, C, H, W) -> the last row's output."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.rows = nn.ModuleList(Row(row) for row in rows)
        self.reads = tuple(tuple(row["reads"]) for row in rows)
        last = {source: i for i, reads in enumerate(self.reads) for source in reads}
        #: What nobody reads after row i.
        self.done = tuple(tuple(s for s in dict.fromkeys(reads) if last[s] == i) for i, reads in enumerate(self.reads))

    def forward(self, x: Tensor) -> Tensor:
        values = {-1: x}
        for i, row in enumerate(self.rows):
            values[i] = row(*[values[source] for source in self.reads[i]])
            for source in self.done[i]:  # activations are then kept only where a gradient needs them
                del values[source]
        return values[len(self.rows) - 1]


class Row(nn.Module):
    """One layer: padding where PyTorch's layer has none of that form, the layer, its function."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__()
        self.pad, self.layer = _layer(row)
        name = "none" if row["type"] == "activation" else row["activation"]
        passed_on = row["type"] == "merge" and len(row["reads"]) == 1  # then it is another row's output
        functions = FUNCTIONS if passed_on else FUNCTIONS | IN_PLACE
        self.function = None if name == "none" else functions[name]()

    def forward(self, *xs: Tensor) -> Tensor:
        if self.pad is not None:
            xs = (self.pad(xs[0]),)
        y = self.layer(*xs)
        return y if self.function is None else self.function(y)


def _layer(row: Mapping[str, Any]) -> tuple[nn.Module | None, nn.Module]:
    """(padding, layer)."""
    c = row["c"]
    match row["type"]:
        case "conv":
            pad, sides = _padding(row, 0.0)
            size, stride, dilation = (tuple(row[key]) for key in ("kernel", "stride", "dilation"))
            filters, groups = row["filters"], row["groups"]
            return pad, nn.Conv2d(c, filters, size, stride, sides, dilation, groups, row["bias"])
        case "pool":
            return _pool(row)
        case "global_pool":
            return None, nn.AdaptiveMaxPool2d(1) if row["mode"] == "max" else nn.AdaptiveAvgPool2d(1)
        case "batch_norm":  # PyTorch's momentum is the share of the new statistic, ours that of the old one
            norm = nn.BatchNorm1d if row["flat"] else nn.BatchNorm2d
            return None, norm(c, row["epsilon"], 1 - row["momentum"])
        case "fc":
            return None, nn.Linear(c, row["units"], row["bias"])
        case "flatten":
            return None, nn.Flatten()
        case "dropout":
            return None, nn.Dropout(row["rate"])
        case "merge":
            return None, {"add": Add, "multiply": Multiply, "concat": Concat}[row["mode"]]()
        case "shortcut_pad":
            return None, ShortcutPad(row["channels"] - c, tuple(row["stride"]))
        case "channel_shuffle":
            return None, nn.ChannelShuffle(row["groups"])
        case "activation":
            return None, _function(row)
    raise AssertionError(f"recipes have no {row['type']}")


def _padding(row: Mapping[str, Any], value: float) -> tuple[nn.Module | None, tuple[int, int]]:
    """(a padding of its own, the layer's): the layer's own is faster, but the same on opposite sides."""
    top, bottom, left, right = row["pads"]
    if (top, left) == (bottom, right):
        return None, (top, left)
    return nn.ConstantPad2d((left, right, top, bottom), value), (0, 0)


def _pool(row: Mapping[str, Any]) -> tuple[nn.Module | None, nn.Module]:
    kernel, stride = tuple(row["kernel"]), tuple(row["stride"])
    largest = row["mode"] == "max"
    pad, sides = _padding(row, -torch.inf if largest else 0.0)
    if largest:
        return pad, nn.MaxPool2d(kernel, stride, sides, ceil_mode=row["ceil_mode"])
    return pad, nn.AvgPool2d(kernel, stride, sides, row["ceil_mode"], row["count_include_pad"])


def _function(row: Mapping[str, Any]) -> nn.Module:
    """A function that is a layer by itself, with its options."""
    name, alpha = row["activation"], row["alpha"]
    if name == "gelu":
        return nn.GELU(row["approximate"])
    if name in ("leaky_relu", "elu") and alpha is not None:
        return nn.LeakyReLU(alpha) if name == "leaky_relu" else nn.ELU(alpha)
    return FUNCTIONS[name]()


class Add(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        y = xs[0]
        for x in xs[1:]:
            y = y + x
        return y


class Multiply(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        y = xs[0]
        for x in xs[1:]:
            y = y * x
        return y


class Concat(nn.Module):
    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, 1)


class ShortcutPad(nn.Module):
    """Option A: every n-th position, and ``extra`` channels of zeros."""

    def __init__(self, extra: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        down, across = self.stride
        return F.pad(x[:, :, ::down, ::across], (0, 0, 0, 0, 0, self.extra))


#: torch.optim's names of our optimizers.
CLASSES = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}


def optimizer_of(fields: Mapping[str, Any], net: nn.Module, **variant: bool) -> torch.optim.Optimizer:
    """torch.optim's optimizer of a recipe's fields. ``variant``: ``foreach`` or ``fused``."""
    own = {"eps" if key == "epsilon" else key: value for key, value in fields.items() if key != "type"}
    made: torch.optim.Optimizer = getattr(torch.optim, CLASSES[fields["type"]])(net.parameters(), **own, **variant)
    return made
