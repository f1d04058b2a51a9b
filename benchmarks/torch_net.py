"""The same network in PyTorch, from the same spec: what benchmarks compare with."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cnnforge.shapes import pair
from cnnforge.spec import ModelSpec

FUNCTIONS = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
}  # fmt: skip


def build(spec: ModelSpec) -> nn.Sequential:
    """Layers up to the value before a last softmax or sigmoid, which PyTorch's losses compute, as ours do."""
    rows = spec.table
    modules: list[nn.Module] = []
    for row in rows:
        b, c = row.block, row.input[-1]
        if row.type == "conv":
            if b.padding == "same":
                top, bottom, left, right = row.window.pads
                modules.append(nn.ZeroPad2d((left, right, top, bottom)))
            padding = b.padding if isinstance(b.padding, int) else 0
            modules.append(
                nn.Conv2d(c, b.filters, pair(b.kernel), pair(b.stride), padding, pair(b.dilation), b.groups, b.bias)
            )
        elif row.type == "pool":
            pool = nn.MaxPool2d if b.mode == "max" else nn.AvgPool2d
            modules.append(pool(row.window.kernel, row.window.stride, row.window.pads[0], ceil_mode=b.ceil_mode))
        elif row.type == "batch_norm":
            modules.append(nn.BatchNorm2d(c, b.epsilon, 1 - b.momentum))
        elif row.type == "flatten":
            modules.append(nn.Flatten())
        elif row.type == "fc":
            modules.append(nn.Linear(c, b.units, b.bias))
        else:
            raise NotImplementedError(f"no PyTorch counterpart here for {row.type}")
        function = getattr(b, "activation", "none")
        if function in FUNCTIONS:
            modules.append(FUNCTIONS[function]())
    return nn.Sequential(*modules)


def copy_weights(spec: ModelSpec, params: dict[str, np.ndarray], net: nn.Sequential) -> None:
    """Carry our weights over: conv (KH, KW, C, F) -> (F, C, KH, KW); fc behind a volume in PyTorch's channel order."""
    holders = [m for m in net if isinstance(m, nn.Conv2d | nn.Linear)]
    rows = [row for row in spec.table if row.type in ("conv", "fc")]
    volume = spec.input
    with torch.no_grad():
        for row, module in zip(rows, holders, strict=True):
            w = np.array(params[f"{row.name}.w"])
            if row.type == "conv":
                w, volume = w.transpose(3, 2, 0, 1), row.output
            else:
                if volume is not None:
                    pooled = next(r.input for r in spec.table if r.type == "flatten")
                    w = w.reshape(*pooled, -1).transpose(2, 0, 1, 3).reshape(len(w), -1)
                    volume = None
                w = w.T
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(w)))
            if module.bias is not None:
                module.bias.copy_(torch.from_numpy(np.array(params[f"{row.name}.b"])))
