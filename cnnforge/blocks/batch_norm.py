"""``batch_norm``: every channel to mean 0 and variance 1 over the batch, then scaled and shifted."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.norm import Norm
from cnnforge.fields import Fraction
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape


class BatchNorm(Norm):
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta, per channel (Ioffe and Szegedy, ICML 2015).

    x: (H, W, C) or (F,) -> the same shape. In training, mean and (biased) variance are the batch's, over N, H and W;
    otherwise the running ones. ``momentum`` is the share of the running statistic that is kept at each step (Keras's
    meaning; PyTorch's is 1 minus it); the running variance is the unbiased one, as in PyTorch.

    epsilon: keeps the divisor above 0
    momentum: the share of the running statistic that is kept
    activation: what the result goes through
    """

    type: Literal["batch_norm"]
    momentum: Fraction = 0.9

    def state(self, x: Shape) -> dict[str, tuple[Shape, float]]:
        return {"mean": ((x[-1],), 0.0), "var": ((x[-1],), 1.0)}

    def normalised(self, g: Graph, x: Value) -> Value:
        p = self.declare(g, x)
        shape = g.sample_shape(x)
        if not g.training:
            ins = (x, p["gamma"], p["beta"], p["mean"], p["var"])
            return g.emit("batch_norm_inference", *ins, out=shape, epsilon=self.epsilon)
        y = g.act("batch_norm", shape)
        mean, var, unbiased = (
            g.value(f"{g.scope}.batch_{s}", (shape[-1],), "act") for s in ("mean", "var", "unbiased")
        )
        g.node("batch_norm", (x, p["gamma"], p["beta"]), (y, mean, var, unbiased), epsilon=self.epsilon)
        # An update of its own, so that computing a gradient changes nothing that is kept.
        phase, g.phase = g.phase, "update"
        g.node("batch_norm_running", (mean, unbiased), (p["mean"], p["var"]), momentum=self.momentum)
        g.phase = phase
        return y
