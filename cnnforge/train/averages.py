"""Averaged weights: what validation, test and the saved model take with ``trainer.ema`` and ``trainer.swa``."""

from __future__ import annotations

import numpy as np

from cnnforge.data.ahead import Source
from cnnforge.executable import Executable, Weights
from cnnforge.lower import AVERAGE
from cnnforge.train.ranks import ALONE, Ranks

#: Training batches on which running statistics are measured: the first of the first epoch.
MEASURED = 100
#: The op that follows a batch's statistics, which it reads, with the running ones, in their order.
RUNNING = "batch_norm_running"


class Averages:
    """A second set of weights beside those that are trained.

    The averages themselves are kept by the update, in the optimizer's slots; ``refresh`` brings them here. Running
    statistics are those of training, or are measured: the mean of each batch's own, as PyTorch's ``update_bn`` does.

    samples: training batches to measure running statistics on; those of training serve where there are none
    ranks: the processes that train; all of them call ``refresh`` at the same places
    """

    def __init__(self, train: Executable, samples: Source | None = None, ranks: Ranks = ALONE) -> None:
        self._train, self._samples, self._ranks = train, samples, ranks
        self.weights = Weights(train.plan, train.backend)
        if samples is None:
            self.weights.state = train.weights.state
            self.weights.buffers["state"] = train.weights.buffers["state"]
        else:
            self._forward = Executable(train.plan, train.backend, self.weights, train.arena)

    @property
    def trained(self) -> dict[str, object]:
        """What of the weights in training is not here, and has to be kept beside: arrays by name."""
        weights = self._train.weights
        return weights.params | (weights.state if self._samples is not None else {})

    def begin(self) -> None:
        """An average of one: the weights as they are."""
        get, put = self._train.backend.get, self._train.backend.put
        for name, array in self._train.weights.params.items():
            if (slot := self._train.slots.get(f"{name}/{AVERAGE}")) is not None:
                put(get(array), slot)
        self.refresh()

    def refresh(self) -> None:
        """Take over the averages, and what is not trained as it is. Between two steps: the arena is used."""
        get, put, train = self._train.backend.get, self._train.backend.put, self._train.weights
        begun = moved = False
        for name, array in train.params.items():
            now = get(self._train.slots.get(f"{name}/{AVERAGE}", array))
            begun |= not np.array_equal(now, get(array))
            moved |= not np.array_equal(now, get(self.weights.params[name]))
            put(now, self.weights.params[name])
        if self._samples is None:
            return
        if begun and moved:
            self._measure(self._samples)
        elif not begun:
            for name, array in train.state.items():
                put(get(array), self.weights.state[name])

    def _measure(self, samples: Source) -> None:
        backend, epoch, seen = self._train.backend, samples.epoch(0), 0
        sums = {name: np.zeros(array.shape) for name, array in self.weights.state.items()}
        for step in range(min(MEASURED, samples.steps_per_epoch)):
            n = samples.size(step)
            shard = samples.shard(step)
            bound = self._forward.bound(self._ranks.take(shard))
            samples.fill(epoch, step, *bound.room)
            bound.send()
            self._forward.set_step(step=1, draw=step, first=shard.start, lr=0.0, inv_n=1 / n, scalars=(0.0, 0.0))
            bound.run("forward")
            for call in bound.calls["update"]:
                if call.node.op == RUNNING:
                    # what the device keeps may come last
                    for value, batchs_own in zip(call.node.outs, call.ins, strict=False):
                        sums[value.name] += n * backend.get(batchs_own)
            seen += n
        for name, total in sums.items():
            backend.put(total / seen, self.weights.state[name])
        backend.align(self.weights.state)
