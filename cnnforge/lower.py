"""spec -> graph: the model's layers, its loss, the way back, the update."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Literal

from cnnforge.errors import ConfigErrors
from cnnforge.ir.graph import GATHERED, FlatRange, Graph, Node, Value, is_vector
from cnnforge.ir.guarded import guarded
from cnnforge.ir.narrow import narrowed
from cnnforge.ir.ranks import over_ranks
from cnnforge.ir.rewrite import fold_norms, pool_first
from cnnforge.ir.verify import verify
from cnnforge.ir.vjp import backward
from cnnforge.losses import Loss
from cnnforge.optim import Optimizer
from cnnforge.shapes import count
from cnnforge.spec import MODEL_INPUT_ROW, ModelSpec, RunSpec

#: The slot that holds the running average of each weight.
AVERAGE = "average"


def train_graph(
    model: ModelSpec,
    batch: int,
    precision: str,
    seed: int,
    optimizer: Optimizer | None = None,
    loss: Loss | None = None,
    gather: bool = False,
    average: bool = False,
    mixed: bool = False,
    ranks: int = 1,
    sync_norms: bool = False,
    tally: bool = False,
) -> Graph:
    """Forward in training mode, loss, backward and, with an optimizer, update.

    batch: the most samples of a step;  precision: see ``ir.precision``;  loss: instead of the model's own
    gather: add up gradients over several batches, in a phase of its own, before an update
    average: keep an average of the weights, which every update changes by what the step block says
    mixed: do labels come from two samples each?
    ranks: processes that share a batch;  sync_norms: does batch_norm look at all of it? (See ``cnnforge.ir.ranks``.)
    tally: add losses and hits up beside the step block, and leave updates out from the first loss on that is not finite
    """
    g = Graph(batch, precision, training=True, seed=seed)
    _, node = _model_and_loss(g, model, loss or model.effective_loss, mixed)
    pool_first(g)
    if optimizer is not None:
        _freeze(g, optimizer)
    narrowed(g)
    # Only an update scales gradients back.
    backward(g, node, scaled=g.numbers.scaled and optimizer is not None)
    if ranks > 1:
        over_ranks(g, ranks, sync_norms)
    if optimizer is not None and g.grads:
        _update(g, optimizer, gather, average)
    if tally:
        _tally(g)
        guarded(g)
    verify(g)
    return g


def step_graph(
    run: RunSpec, batch: int | None = None, loss: Loss | None = None, ranks: int = 1, tallies: bool = False
) -> Graph:
    """``train_graph`` of a run, of its own batch size where no other is given.

    tallies: does the backend add losses up by itself? Of several processes each sees a part of them: they look at all.
    """
    trainer = run.trainer
    return train_graph(
        run.model,
        batch or trainer.batch_size,
        trainer.precision,
        run.seed,
        run.optimizer,
        loss,
        gather=trainer.accumulate > 1,
        average=trainer.averaging is not None,
        mixed=run.augment.mixes and not trainer.overfit_batches,
        ranks=ranks,
        sync_norms=trainer.sync_batch_norm,
        tally=tallies and ranks == 1,
    )


def eval_graph(
    model: ModelSpec,
    batch: int,
    precision: str,
    loss: Loss | None = None,
    ranks: int = 1,
    each_layer: bool = False,
    tally: bool = False,
) -> Graph:
    """Forward in inference mode, norms folded into the weights before them, prediction and loss.

    each_layer: keep what every layer gives as an output, ``layer_role`` of its name; nothing is then folded
    tally: add losses and hits up beside the step block
    """
    g = Graph(batch, precision, training=False)
    values, _ = _model_and_loss(g, model, loss or model.effective_loss)
    if each_layer:
        g.outputs.update({layer_role(row.name): v for row, v in zip(model.table, values, strict=True)})
    else:
        fold_norms(g)
        pool_first(g)
    narrowed(g)
    if ranks > 1:
        over_ranks(g, ranks, norms=False)
    if tally:
        _tally(g)
    verify(g)
    return g


def _tally(g: Graph) -> None:
    g.scope, g.path, g.phase = "loss", ("model", "loss"), "loss"
    kept = g.on_device()
    g.node("tally", (g.outputs["loss"], g.outputs["hits"], g.step(), kept), (kept,))


def layer_role(name: str) -> str:
    """The output that a layer's activation is, where each is kept."""
    return f"layer/{name}"


def _model_and_loss(g: Graph, model: ModelSpec, loss: Loss, mixed: bool = False) -> tuple[list[Value], Node]:
    """(what each layer gives, the loss)."""
    x = image = g.input("x", model.input)
    values: list[Value] = []
    for row in model.table:
        g.scope, g.path = row.name, row.path
        x = row.block.lower(g, *(image if i == MODEL_INPUT_ROW else values[i] for i in row.reads))
        assert g.sample_shape(x) == row.output, f"{row.name}: lowered {x.shape}, the spec says {row.output}"
        values.append(x)
    g.scope, g.path = "loss", ("model", "loss")
    shape, dtype = (loss.mixed_labels if mixed else loss.labels)(model.output)
    labels = g.input("labels", shape, dtype or g.dtype)
    z, prediction = _split_off_activation(g, x, loss) if model.last_activation == loss.fuses else _predicted(g, x, loss)
    g.phase = "loss"
    node = loss.lower(g, z, labels)
    g.phase = "forward"
    g.outputs.update(output=x, prediction=prediction, loss=node.outs[0], hits=node.outs[1])
    return values, node


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


def _freeze(g: Graph, optimizer: Optimizer) -> None:
    """Take what the optimizer's groups freeze out of the gradients. Raises ConfigErrors where a group fits nothing."""
    trainable = [name for name, p in g.params.items() if p.trainable]
    if wrong := optimizer.mistakes(g.params, trainable):
        raise ConfigErrors(wrong)
    g.frozen = frozenset(name for name in trainable if optimizer.freezes(name))


def _update(g: Graph, optimizer: Optimizer, gather: bool, average: bool) -> None:
    """One node for every range of the flat buffers over which the optimizer, or the one it leaves parameters to, and
    the rates are the same.

    What several batches add up lies beside the optimizer's slots, and goes back to the gradients for the update.
    Where the loss is scaled, what is next scales them back, and decides for all that follows whether it is left out.
    """
    g.scope, g.path, g.phase = "optimizer", ("optimizer",), "update"

    def rule(name: str) -> tuple[bool, Optimizer, float]:
        """(does it learn, what updates it, factor on the step block's learning rate)"""
        vector = is_vector(g.params[name])
        own = optimizer.rule(name, vector)
        rate, decay = own.rates(name, vector)
        return name in g.grads, own.model_copy(update={"weight_decay": decay}), rate * (own.lr / optimizer.lr)

    learning = [name for name in g.laid_out() if name in g.grads]
    if learning and (gather or g.numbers.scaled or optimizer.clip is not None):
        size = (sum(count(g.params[name].value.shape) for name in learning),)
        everything = g.value("grads", size, "flat")
        g.flat[everything] = FlatRange("grads", tuple(learning))
        if gather:
            gathered = g.value(f"slots.{GATHERED}", size, "flat")
            g.flat[gathered] = FlatRange("slots", tuple(learning), GATHERED)
            g.phase = "gather"
            g.node("gather", (everything, gathered), (gathered,))
            g.phase = "update"
            g.node("take", (gathered,), (everything, gathered))
        if g.numbers.scaled:
            g.node("guard", (everything, g.on_device()), (everything, g.on_device()))
        if optimizer.clip is not None:
            optimizer.clip.lower(g, everything)
    for (learns, own, rate), group in groupby(g.laid_out(), rule):
        if not learns:
            continue
        names = tuple(group)
        shape = (sum(count(g.params[name].value.shape) for name in names),)

        def flat(buffer: Literal["params", "grads", "slots"], slot: str = "") -> Value:
            v = g.value(f"{buffer}.{slot}" if slot else buffer, shape, "flat")  # noqa: B023 - called in this turn
            g.flat[v] = FlatRange(buffer, names, slot)  # noqa: B023
            return v

        params, slots = flat("params"), tuple(flat("slots", slot) for slot in own.slots())
        own.lower(g, params, flat("grads"), slots, **({} if rate == 1 else {"rate": rate}))
        if average:
            mean = flat("slots", AVERAGE)
            g.node("average", (mean, params, g.step()), (mean,))
    if g.numbers.scaled:
        # Running statistics, whose nodes are the forward pass's, wait for the decision too.
        g.nodes.sort(key=lambda n: n.phase == "update" and n.op not in ("take", "guard"))
        guarded(g)
