"""Weights averaged over the last updates: what validation, test and the saved model take with ``trainer.ema``."""

from __future__ import annotations

from cnnforge.executable import Executable, Weights
from cnnforge.lower import AVERAGE


class Averages:
    """A second set of weights beside those that are trained; running statistics are shared.

    The averages themselves are kept by the update, in the optimizer's slots; ``refresh`` brings them here.
    """

    def __init__(self, train: Executable) -> None:
        self._train = train
        self.weights = Weights(train.plan, train.backend)
        self.weights.state = train.weights.state
        self.weights.buffers["state"] = train.weights.buffers["state"]

    def begin(self) -> None:
        """An average of one: the weights as they are."""
        get, put = self._train.backend.get, self._train.backend.put
        for name, array in self._train.weights.params.items():
            if (slot := self._train.slots.get(f"{name}/{AVERAGE}")) is not None:
                put(get(array), slot)
        self.refresh()

    def refresh(self) -> None:
        """Take over the averages, and what is not trained as it is."""
        get, put = self._train.backend.get, self._train.backend.put
        for name, array in self._train.weights.params.items():
            put(get(self._train.slots.get(f"{name}/{AVERAGE}", array)), self.weights.params[name])
