"""What an optimizer is: its fields (PyTorch's names and defaults), its slots, its one node over the flat buffers."""

from __future__ import annotations

from cnnforge.fields import NonNegativeFloat, PositiveFloat, Spec
from cnnforge.ir.graph import Graph, Value


class Optimizer(Spec):
    """Base of every optimizer.

    Every update reads the gradient *sums* over the batch and scales them once by 1/n (``inv_n`` in the step block).

    lr: the learning rate, which the schedule multiplies
    weight_decay: how strongly weights are pulled towards 0
    """

    type: str
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0

    def slots(self) -> tuple[str, ...]:
        """Names of the flat buffers, as large as the trainable parameters, that live from step to step."""
        return ()

    def scalars(self, step: int) -> tuple[float, float]:
        """(c1, c2) of the step block at update number ``step`` (from 1)."""
        return 0.0, 0.0

    def attrs(self) -> dict[str, object]:
        """The constants that the kernel needs."""
        raise NotImplementedError

    def lower(self, g: Graph, params: Value, grads: Value, slots: tuple[Value, ...]) -> None:
        """Append the update: (params, grads, step, slots…) -> (params, slots…), all flat, in place."""
        g.node(self.type, (params, grads, g.step(), *slots), (params, *slots), **self.attrs())
