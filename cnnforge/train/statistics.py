"""How each layer fares: its gradient, how far its weights move, how many of its units are dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnforge.errors import Path
from cnnforge.executable import Bound, Executable
from cnnforge.plan import PlannedNode
from cnnforge.train.ranks import ALONE, Ranks


class LayerStatistics:
    """Numbers of the first training step, the last, and one in every ``every``, by layer.

    ``layer/conv1.w/grad_norm``     the norm of the mean gradient
    ``layer/conv1.w/update_ratio``  how far the step moved the weights, as a share of their norm; about 1e-3 is usual
    ``layer/conv1/dead``            the share of a rectifier's units that are 0 for the whole batch

    Weights are parameters of two axes and more; biases and norms have no lines. An exploding layer shows in the first,
    a learning rate that does not suit in the second, dead units in the third.
    """

    def __init__(
        self, train: Executable, names: Mapping[Any, str], every: int | None, last: int, ranks: Ranks = ALONE
    ) -> None:
        """names: of layers by their path;  every: None for never;  last: the number of the run's last update"""
        self._train, self._names, self._every, self._last, self._ranks = train, names, every, last, ranks
        self._weights = [name for name, grad in train.grads.items() if len(grad.shape) > 1]
        self._before: dict[str, Any] = {}

    def due(self, step: int) -> bool:
        """Is update ``step`` (from 1) one that is looked at?"""
        return self._every is not None and (step in (1, self._last) or step % self._every == 0)

    def before(self, bound: Bound, counts: bool = True) -> dict[str, float]:
        """After forward and loss, before backward overwrites what rectifiers gave.

        counts: are its samples this process's own?
        """
        get = self._train.backend.get
        self._before = {name: np.array(get(self._train.weights.params[name])) for name in self._weights}
        alive: dict[str, Any] = {}
        for call in bound.calls.get("backward", ()):
            if (found := _rectified(call.node)) is not None:
                at, path = found
                y, name = get(call.ins[at]), str(self._names.get(path, path[-1]))
                # Over the samples first: an inner loop over a few channels would take ten times as long.
                dead = (y.reshape(len(y), -1) <= 0).all(axis=0).reshape(-1, y.shape[-1]).all(axis=0)
                alive[name] = np.where(dead, 0.0, counts)
        return {f"layer/{name}/dead": self._dead(alive[name]) for name in sorted(alive)}

    def _dead(self, alive: Any) -> float:
        """The share of units that no rank has seen at work."""
        self._ranks.sum(alive)
        return float((alive == 0).mean())

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


def _rectified(node: PlannedNode) -> tuple[int, Path] | None:
    """Which of its inputs a rectifier gave whose derivative it takes, and that one's path; None where it takes none.

    A derivative may end the kernel of the layer behind.
    """
    taken, parts = 0, node.attrs.get("parts", ((node.op, len(node.ins), {}),))
    for (op, own, _), path in zip(parts, node.paths or (node.path,), strict=True):
        if op in ("relu_dx", "relu6_dx"):
            return taken, path
        taken += own
    return None


def _norm(array: Any) -> float:
    # In float64, where the squares of what float32 can hold have room.
    # BLAS would wake threads of its own for this.
    return float(np.sqrt(np.square(array, dtype=np.float64).sum()))
