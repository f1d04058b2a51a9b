"""How each layer fares: its gradient, how far its weights move, how many of its units are dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnforge.executable import Bound, Executable


class LayerStatistics:
    """Numbers of one training step in every ``every``, by layer.

    ``layer/conv1.w/grad_norm``     the norm of the mean gradient
    ``layer/conv1.w/update_ratio``  how far the step moved the weights, as a share of their norm; about 1e-3 is usual
    ``layer/conv1/dead``            the share of a rectifier's units that are 0 for the whole batch

    Weights are parameters of two axes and more; biases and norms have no lines. An exploding layer shows in the first,
    a learning rate that does not suit in the second, dead units in the third.
    """

    def __init__(self, train: Executable, names: Mapping[Any, str], every: int | None) -> None:
        """names: of layers by their path;  every: None for never"""
        self._train, self._names, self._every = train, names, every
        self._weights = [name for name, grad in train.grads.items() if len(grad.shape) > 1]
        self._before: dict[str, Any] = {}

    def due(self, step: int) -> bool:
        """Is update ``step`` (from 1) one that is looked at? The first is, and every so many."""
        return self._every is not None and (step == 1 or step % self._every == 0)

    def before(self, bound: Bound) -> dict[str, float]:
        """After forward and loss, before backward overwrites what rectifiers gave."""
        get = self._train.backend.get
        self._before = {name: np.array(get(self._train.weights.params[name])) for name in self._weights}
        dead: dict[str, float] = {}
        for call in bound.calls.get("backward", ()):
            if call.node.op.startswith(("relu_dx", "relu6_dx")):
                y = get(call.ins[0])
                share = float((y.reshape(-1, y.shape[-1]) <= 0).all(axis=0).mean())
                dead[f"layer/{self._names.get(call.node.path, call.node.path[-1])}/dead"] = share
        return dead

    def after(self, inv_n: float) -> dict[str, float]:
        """After the update. ``inv_n``: what turns the sums of gradients into means."""
        get = self._train.backend.get
        found: dict[str, float] = {}
        for name, before in self._before.items():
            found[f"layer/{name}/grad_norm"] = _norm(get(self._train.grads[name])) * inv_n
            moved = _norm(get(self._train.weights.params[name]).astype(np.float64) - before)
            found[f"layer/{name}/update_ratio"] = moved / max(_norm(before), 1e-30)
        self._before = {}
        return found


def _norm(array: Any) -> float:
    # In float64, where the squares of what float32 can hold have room.
    return float(np.linalg.norm(np.ravel(array).astype(np.float64)))
