"""Short forms of a run, to see whether it works at all: a few batches again and again, or two steps of everything."""

from __future__ import annotations

from dataclasses import replace

from cnnforge import rng
from cnnforge.data import Dataset, Split
from cnnforge.data.dataset import no_samples
from cnnforge.spec import TrainerSpec

#: Steps of ``fast_dev_run``.
DEV_STEPS = 2


def most_steps(trainer: TrainerSpec) -> int | None:
    """Where the run ends, whatever the epochs say."""
    if not trainer.fast_dev_run:
        return trainer.max_steps
    return min(DEV_STEPS, trainer.max_steps or DEV_STEPS)


def shortened(data: Dataset, trainer: TrainerSpec, seed: int) -> tuple[Dataset, list[str]]:
    """The data that a run works on, and what is left out in words."""
    notes = []
    if trainer.overfit_batches:
        rows = rng.permutation(seed, "shuffle", len(data.train), 0)[: trainer.overfit_batches * trainer.batch_size]
        few = Split(data.train.x[rows], data.train.y[rows])
        data = replace(data, train=few, validation=no_samples(few), test=no_samples(few))
        notes.append(
            f"trainer.overfit_batches: the same {len(few):,} samples in every epoch, as they are; no validation"
        )
    if trainer.fast_dev_run:
        one = trainer.batch_size
        data = replace(data, validation=_first(data.validation, one), test=_first(data.test, one))
        notes.append(f"trainer.fast_dev_run: {DEV_STEPS} steps, one batch of validation and of test, no tracking")
    return data, notes


def _first(split: Split, n: int) -> Split:
    return Split(split.x[:n], split.y[:n])
