"""A spec as PyTorch would run it: NCHW pictures, (F, C, KH, KW) filters, torch.nn.functional and torch.optim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cnnforge.optim import Optimizer
from cnnforge.shapes import Window
from cnnforge.spec import ModelSpec, Row, ending


class Reference:
    """The same model in PyTorch, with its own copies of weights and running statistics.

    Inside, a flattened picture has PyTorch's order (channels first); ``feature_order`` says which of our features each
    of its features is.
    """

    def __init__(self, spec: ModelSpec, params: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        self.spec = spec
        self.feature_order = {row.name: order for row, order in _orders(spec)}
        self.params = {
            name: torch.tensor(self.to_torch(name, array)).requires_grad_(self._trainable(name))
            for name, array in params.items()
        }
        self.state = {name: torch.tensor(self.to_torch(name, array)) for name, array in state.items()}

    def _trainable(self, name: str) -> bool:
        return not self.spec.layers[name.split(".")[0]].frozen

    def to_torch(self, name: str, array: Any) -> np.ndarray:
        """A weight of ours in PyTorch's layout."""
        array, order = np.array(array), self.feature_order[name.split(".")[0]]
        if array.ndim == 4:
            return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        if array.ndim == 2:
            return np.ascontiguousarray((array if order is None else array[order]).T)
        per_feature = name.split(".")[1] != "b"  # a bias belongs to units, which have one order only
        return array[order] if per_feature and order is not None else array

    def to_ours(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """The way back."""
        array, order = tensor.detach().numpy(), self.feature_order[name.split(".")[0]]
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if array.ndim == 2:
            array = array.T
        elif name.split(".")[1] == "b":
            return array
        return array if order is None else array[np.argsort(order)]

    def forward(self, x: np.ndarray, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """(what the loss reads, the prediction), channels first."""
        v = torch.tensor(x.transpose(0, 3, 1, 2).copy())
        before_ending = v
        for row in self.spec.table:
            before_ending, v = self._layer(row, v, training)
        loss = self.spec.effective_loss
        if loss.fuses == self.spec.last_activation:
            return before_ending, v
        return v, v if loss.fuses is None else _activation(loss.fuses, v)

    def _layer(self, row: Row, v: torch.Tensor, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        block: Any = row.block
        own = {n.split(".")[1]: t for n, t in (self.params | self.state).items() if n.startswith(f"{row.name}.")}
        match block.type:
            case "conv":
                w = own["w"].flip(2, 3) if block.flip else own["w"]
                win = row.window
                top, bottom, left, right = win.pads
                v = F.pad(v, (left, right, top, bottom))
                v = F.conv2d(v, w, own.get("b"), win.stride, 0, win.dilation, block.division(row.input)[0])
            case "conv_transpose":
                w, win = own["w"].flip(2, 3) if block.flip else own["w"], row.window
                full = F.conv_transpose2d(v, w, None, win.stride, 0, 0, block.groups, win.dilation)
                top, _, left, _ = win.pads
                bottom, right = win.out[0] + top - full.shape[2], win.out[1] + left - full.shape[3]
                v = F.pad(full, (-left, right, -top, bottom))  # what is below 0 is cut off
                v = v + own["b"][:, None, None] if block.bias else v
            case "fc":
                v = F.linear(v, own["w"], own.get("b"))
            case "scale":
                v = v * block.factor
            case "flatten":
                v = v.flatten(1)
            case "pool":
                v = _pool(v, row.window, block.mode, block.ceil_mode, block.count_include_pad)
            case "global_pool":
                v = F.adaptive_max_pool2d(v, 1) if block.mode == "max" else F.adaptive_avg_pool2d(v, 1)
            case "batch_norm":
                # PyTorch's momentum is the share of the new statistic, ours (and Keras's) that of the old one.
                v = F.batch_norm(
                    v, own["mean"], own["var"], own["gamma"], own["beta"], training, 1 - block.momentum, block.epsilon
                )
            case "group_norm":
                v = F.group_norm(v, block.groups, own["gamma"], own["beta"], block.epsilon)
            case "layer_norm":
                v = F.layer_norm(v.movedim(1, -1), own["gamma"].shape, own["gamma"], own["beta"], block.epsilon)
                v = v.movedim(-1, 1)
            case "lrn":
                v = F.local_response_norm(v, block.size, block.alpha, block.beta, block.k)
            case "dropout" | "spatial_dropout" | "drop_path":
                assert not training, "PyTorch draws other numbers"
            case "activation" if block.function == "prelu":
                v = F.prelu(v, own["alpha"])
                return v, v
            case "activation":
                return v, _activation(block.function, v, block.alpha, block.approximate)
        return v, _activation(ending(block), v)

    def loss(self, z: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        """The mean over the batch."""
        target = torch.tensor(labels if labels.ndim < 4 else labels.transpose(0, 3, 1, 2).copy())
        loss: Any = self.spec.effective_loss
        match loss.type:
            case "softmax_cross_entropy":
                weights = None if loss.class_weights is None else torch.tensor(loss.class_weights, dtype=z.dtype)
                return F.cross_entropy(z, target, weights, label_smoothing=loss.label_smoothing)
            case "sigmoid_cross_entropy":
                target = target * (1 - loss.label_smoothing) + loss.label_smoothing / 2  # PyTorch has none
                weight = torch.tensor(loss.pos_weight, dtype=z.dtype)
                return F.binary_cross_entropy_with_logits(z, target, pos_weight=weight)
            case "mse":
                return F.mse_loss(z, target)
        raise AssertionError

    def loss_and_gradients(self, x: np.ndarray, labels: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Training mode, gradients in our layout."""
        for p in self.params.values():
            p.grad = None
        loss = self.loss(self.forward(x, training=True)[0], labels)
        loss.backward()
        return loss.item(), {n: self.to_ours(n, p.grad) for n, p in self.params.items() if p.grad is not None}


def _orders(spec: ModelSpec):
    order = None
    for row in spec.table:
        if row.type == "flatten" and len(row.input) == 3:
            order = np.arange(row.activation_size).reshape(row.input).transpose(2, 0, 1).reshape(-1)
        yield row, order
        if row.type == "fc":
            order = None


def _activation(name: str, v: torch.Tensor, alpha: float | None = None, approximate: str = "none") -> torch.Tensor:
    match name:
        case "none":
            return v
        case "leaky_relu":
            return F.leaky_relu(v, 0.01 if alpha is None else alpha)
        case "elu":
            return F.elu(v, 1.0 if alpha is None else alpha)
        case "gelu":
            return F.gelu(v, approximate=approximate)
        case "softmax":
            return torch.softmax(v, dim=1)
        case "hard_sigmoid":  # F.hardsigmoid's gradient is a sixth in float32, whatever the precision
            return F.relu6(v + 3) / 6
    name = name.replace("_", "")  # hard_swish is F.hardswish
    return getattr(torch, name)(v) if hasattr(torch, name) else getattr(F, name)(v)


def _pool(v: torch.Tensor, win: Window, mode: str, ceil_mode: bool, count_include_pad: bool) -> torch.Tensor:
    top, bottom, left, right = win.pads
    sides = (top, left)
    if (bottom, right) == sides and all(2 * s <= k for s, k in zip(sides, win.kernel, strict=True)):
        if mode == "max":
            return F.max_pool2d(v, win.kernel, win.stride, sides, ceil_mode=ceil_mode)
        return F.avg_pool2d(v, win.kernel, win.stride, sides, ceil_mode, count_include_pad)
    assert not ceil_mode, "PyTorch does not take this padding, and padding by hand changes what ceil_mode drops"

    def padded(t: torch.Tensor, value: float) -> torch.Tensor:
        return F.pad(t, (left, right, top, bottom), value=value)

    if mode == "max":
        return F.max_pool2d(padded(v, -torch.inf), win.kernel, win.stride)
    sums = F.avg_pool2d(padded(v, 0), win.kernel, win.stride)
    return sums if count_include_pad else sums / F.avg_pool2d(padded(torch.ones_like(v), 0), win.kernel, win.stride)


def optimizer_of(ours: Optimizer, params: dict[str, torch.Tensor]) -> torch.optim.Optimizer:
    """torch.optim's optimizer of the same fields, with one parameter group for each tensor that is trained."""
    fields = ours.model_dump(exclude={"type", "decay", "clip", "groups"})
    if "epsilon" in fields:
        fields["eps"] = fields.pop("epsilon")
    cls = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}[ours.type]
    groups = []
    for name, p in params.items():
        if not ours.freezes(name):
            rate, decay = ours.rates(name, p.ndim < 2)
            groups.append({"params": [p], "lr": ours.lr * rate, "weight_decay": decay})
    return getattr(torch.optim, cls)(groups, **fields)
