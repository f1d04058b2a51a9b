"""The model against its run: batches, schedule, data."""

from __future__ import annotations

from collections.abc import Iterator

from cnnforge.blocks.batch_norm import BatchNorm
from cnnforge.shapes import count
from cnnforge.spec.diagnosis import data_mismatch
from cnnforge.spec.layers import LAYERS
from cnnforge.spec.lint.net import Finding, Net


def nothing_to_learn(net: Net) -> Iterator[Finding]:
    """A model without weights, or with frozen ones only."""
    total = sum(row.param_count for row in net.rows)
    if not any(row.trainable_count for row in net.rows):
        yield Finding(
            "the model has nothing to learn",
            LAYERS,
            f"all of its {total:,} parameters are frozen" if total else "no layer has weights",
            "trainable: true in one layer at least" if total else "a conv or an fc",
        )


def batch_of_one(net: Net) -> Iterator[Finding]:
    """batch_norm with batches of one: there is no other sample to compare with."""
    norms = [row for row in net.rows if isinstance(row.block, BatchNorm)]
    if net.run.trainer.batch_size > 1 or not norms:
        return
    vector = next((row for row in norms if count(row.output[:-1]) == 1), None)
    why = (
        f"{vector.name} has one value per channel, which is its own mean: it gives the same whatever comes in"
        if vector is not None
        else f"{norms[0].name} normalises every picture by itself in training, and by an average over all in use"
    )
    yield Finding("trainer: batch_size 1 with batch_norm", ("trainer", "batch_size"), why, "trainer.batch_size: 16")


def schedule_beyond_run(net: Net) -> Iterator[Finding]:
    """A milestone or warm-up of the schedule that ends when the run is over, or later."""
    epochs = net.run.trainer.epochs
    for key, epoch in net.run.schedule.reaches().items():
        if epoch >= epochs:
            yield Finding(
                f"schedule: {key} ends at epoch {epoch:g} of {epochs}",
                ("schedule", key),
                f"the run ends after {epochs} epoch{'s' * (epochs > 1)}, before it takes effect",
                f"trainer.epochs above {epoch:g}, or an earlier {key}",
            )


def class_count(net: Net) -> Iterator[Finding]:
    """The output does not suit the labels of the data. An error where the data is named, as it is in every ``train``;
    a warning where ``check`` is asked about a model and the data is only what would be taken.
    """
    for mismatch in data_mismatch(net.run.model, net.run.data):
        kind = net.run.data.type
        yield Finding(
            f"data={kind} does not suit {net.run.model.name}: {mismatch.what}",
            mismatch.path,
            mismatch.why,
            f"name the data that is meant (data=…); for {kind}: {mismatch.fix}",
        )
