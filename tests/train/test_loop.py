"""The loop against what it promises: order, counters, metrics, stopping, diverging."""

from itertools import pairwise

import numpy as np
import pytest

from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.errors import DivergedError, InterruptedRun
from cnnforge.optim import OPTIMIZERS
from cnnforge.schedules import ConstantSchedule, CosineSchedule
from cnnforge.spec import ModelSpec
from cnnforge.train.loop import Progress, Recipe, Silent, evaluate, fit
from cnnforge.train.metrics import Sums
from tests.building import build

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [4, 4, 1],
        "layers": {
            "c": {"type": "conv", "filters": 2, "kernel": 3, "activation": "tanh"},
            "d": {"type": "dropout", "rate": 0.25},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)
SGD = OPTIMIZERS["sgd"](type="sgd", lr=0.05, momentum=0.9)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(23, 4, 4, 1)), RNG.integers(0, 3, 23)


class Recorder(Silent):
    """Keeps everything it is told; asks to stop after ``limit`` steps."""

    def __init__(self, limit=None):
        self.steps, self.epochs, self.saved, self.limit = [], [], [], limit

    def step(self, progress, metrics):
        self.steps.append((progress.epoch, progress.step_in_epoch, progress.step, dict(metrics)))

    def epoch(self, progress, metrics, improved):
        self.epochs.append((progress.epoch, dict(metrics), improved))

    def stopping(self):
        return InterruptedRun("interrupted") if self.limit is not None and len(self.steps) >= self.limit else None

    def interrupted(self, progress):
        self.saved.append(progress.step)


def engines():
    return build(SPEC, batch=5, optimizer=SGD), build(SPEC, batch=5, training=False)


def recipe(**changes):
    settings = {"epochs": 3, "log_every": 2, **changes}
    return Recipe(SGD, settings.pop("schedule", ConstantSchedule(type="constant")), SPEC.effective_loss, **settings)


def source(shuffle=True):
    return Batches(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=shuffle)


def run(watcher, progress=None, validation=True, train=None, **changes):
    built, evaluation = engines()
    train = train or built
    return fit(
        train.exe, evaluation.exe, source(), source(shuffle=False) if validation else None, recipe(**changes), watcher,
        progress or Progress(),
    )  # fmt: skip


def test_counters_and_partial_last_batch():
    seen = Recorder()
    history = run(seen)
    assert [s[2] for s in seen.steps] == list(range(1, 16)), "23 samples in fives: five steps an epoch"
    assert [s[:2] for s in seen.steps[:6]] == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 1)]
    assert [e[0] for e in seen.epochs] == [1, 2, 3]
    assert len(history) == 3
    assert set(history[0]) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "samples_per_second"}


def test_metrics_come_every_log_every_steps_and_at_the_end():
    seen = Recorder()
    run(seen)
    assert [s[2] for s in seen.steps if s[3]] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert set(seen.steps[1][3]) == {
        "step/train_loss", "step/train_accuracy", "step/lr", "step/samples_per_second",
    }  # fmt: skip


def test_every_sample_counts_once_per_epoch():
    order = source().order(2)
    assert sorted(order.tolist()) == list(range(23))
    assert order.tolist() != source().order(3).tolist()


def test_max_steps_ends_within_an_epoch():
    seen = Recorder()
    run(seen, max_steps=7)
    assert len(seen.steps) == 7
    assert len(seen.epochs) == 2


def test_the_schedule_reaches_the_optimizer():
    seen = Recorder()
    run(seen, log_every=1, schedule=CosineSchedule(type="cosine"))
    rates = [s[3]["step/lr"] for s in seen.steps]
    assert rates[0] == pytest.approx(0.05)
    assert all(a > b for a, b in pairwise(rates))
    assert rates[-1] < 0.001


def test_a_stopped_and_continued_run_is_the_uninterrupted_one_bit_for_bit():
    whole, _ = engines()
    run(Silent(), train=whole)
    pieces, _ = engines()
    progress = Progress()
    for limit in (3, 4, 2):
        watcher = Recorder(limit)
        with pytest.raises(InterruptedRun):
            run(watcher, progress, train=pieces)
        assert watcher.saved == [progress.step]
    run(Silent(), progress, train=pieces)
    for name, array in whole.exe.weights.params.items():
        np.testing.assert_array_equal(pieces.exe.weights.params[name], array)


def test_divergence_is_an_error_with_the_step_and_a_fix():
    wild = OPTIMIZERS["sgd"](type="sgd", lr=1e38)
    built, evaluation = (
        build(SPEC, batch=5, dtype="float32", training=training, optimizer=wild if training else None)
        for training in (True, False)
    )
    settings = Recipe(wild, ConstantSchedule(type="constant"), SPEC.effective_loss, epochs=3)
    with pytest.raises(DivergedError) as error:
        fit(built.exe, evaluation.exe, source(), None, settings, Silent(), Progress())
    assert "training diverged: the loss is" in str(error.value)
    assert "fix:   a smaller learning rate, e.g. optimizer.lr=1e+37" in str(error.value)
    assert error.value.exit_code == 4


def test_best_is_by_validation_accuracy():
    progress, seen = Progress(), Recorder()
    run(seen, progress)
    scores = [metrics["val_accuracy"] for _, metrics, _ in seen.epochs]
    assert progress.best_score == max(scores)
    assert [improved for *_, improved in seen.epochs] == [
        score > max(scores[:i], default=-1) for i, score in enumerate(scores)
    ]


def test_without_validation_nothing_is_best():
    progress, seen = Progress(), Recorder()
    history = run(seen, progress, validation=False)
    assert progress.best_score is None
    assert "val_loss" not in history[0]


def test_evaluation_is_the_mean_over_samples_not_over_batches():
    _, evaluation = engines()
    metrics = evaluate(evaluation.exe, source(shuffle=False), SPEC.effective_loss, "test")
    bound = build(SPEC, batch=23, training=False)
    bound.bound.x[...], bound.bound.labels[...] = X, Y
    bound.run("forward", "loss")
    assert metrics["test_loss"] == pytest.approx(float(bound.bound.outputs["loss"].mean()), rel=1e-12)
    assert metrics["test_accuracy"] == pytest.approx(float(bound.bound.outputs["hits"].mean()), rel=1e-12)


def test_sums_of_nothing_are_no_metrics():
    assert Sums().means("test", True) == {}
