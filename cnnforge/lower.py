"""spec -> graph: the model's layers, its loss, the way back, the update."""

from __future__ import annotations

from dataclasses import replace

from cnnforge.ir.graph import Graph, Node, Value
from cnnforge.ir.rewrite import fold_norms, pool_first
from cnnforge.ir.verify import verify
from cnnforge.ir.vjp import backward
from cnnforge.losses import Loss
from cnnforge.optim import Optimizer
from cnnforge.shapes import count
from cnnforge.spec import MODEL_INPUT_ROW, ModelSpec


def train_graph(
    model: ModelSpec, batch: int, dtype: str, seed: int, optimizer: Optimizer | None = None, loss: Loss | None = None
) -> Graph:
    """Forward in training mode, loss, backward and, with an optimizer, update.

    batch: the most samples of a step;  dtype: ``float32`` or ``float64``;  loss: instead of the model's own
    """
    g = Graph(batch, dtype, training=True, seed=seed)
    node = _model_and_loss(g, model, loss or model.effective_loss)
    pool_first(g)
    backward(g, node)
    if optimizer is not None and g.grads:
        _update(g, optimizer)
    verify(g)
    return g


def eval_graph(model: ModelSpec, batch: int, dtype: str, loss: Loss | None = None) -> Graph:
    """Forward in inference mode, norms folded into the weights before them, prediction and loss."""
    g = Graph(batch, dtype, training=False)
    _model_and_loss(g, model, loss or model.effective_loss)
    fold_norms(g)
    pool_first(g)
    verify(g)
    return g


def _model_and_loss(g: Graph, model: ModelSpec, loss: Loss) -> Node:
    x = image = g.input("x", model.input)
    values: list[Value] = []
    for row in model.table:
        g.scope, g.path = row.name, row.path
        x = row.block.lower(g, *(image if i == MODEL_INPUT_ROW else values[i] for i in row.reads))
        assert g.sample_shape(x) == row.output, f"{row.name}: lowered {x.shape}, the spec says {row.output}"
        values.append(x)
    g.scope, g.path = "loss", ("model", "loss")
    shape, dtype = loss.labels(model.output)
    labels = g.input("labels", shape, dtype or g.dtype)
    z, prediction = _split_off_activation(g, x, loss) if model.last_activation == loss.fuses else _predicted(g, x, loss)
    g.phase = "loss"
    node = loss.lower(g, z, labels)
    g.phase = "forward"
    g.outputs.update(output=x, prediction=prediction, loss=node.outs[0], hits=node.outs[1])
    return node


def _split_off_activation(g: Graph, x: Value, loss: Loss) -> tuple[Value, Value]:
    """(what the loss reads, the prediction): the last softmax or sigmoid, which the loss computes itself, moves to the
    ``output`` phase, which training does not run.
    """
    last = g.nodes[-1]
    assert (last.op, last.out) == (loss.fuses, x), f"{last.op} does not end the model"
    g.nodes[-1] = replace(last, phase="output")
    return last.ins[0], x


def _predicted(g: Graph, x: Value, loss: Loss) -> tuple[Value, Value]:
    """(what the loss reads, the prediction), where the model does not end with the loss's own function."""
    g.phase = "output"
    return x, loss.predict(g, x)


def _update(g: Graph, optimizer: Optimizer) -> None:
    """The optimizer as one node over the flat buffers of everything trainable."""
    size = sum(count(p.value.shape) for p in g.params.values() if p.trainable)
    g.scope, g.path, g.phase = "optimizer", ("optimizer",), "update"
    params, grads = (g.value(name, (size,), "flat") for name in ("params", "grads"))
    slots = tuple(g.value(f"slots.{name}", (size,), "flat") for name in optimizer.slots())
    optimizer.lower(g, params, grads, slots)
