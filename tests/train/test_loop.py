"""The loop against what it promises: order, counters, metrics, stopping, diverging."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from cnnforge.backends import create
from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.errors import DivergedError, InterruptedRun
from cnnforge.executable import Executable, Weights
from cnnforge.lower import eval_graph, train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.optim.base import Clip
from cnnforge.plan import make_plan
from cnnforge.schedules import SCHEDULES, ConstantSchedule
from cnnforge.spec import ModelSpec
from cnnforge.spec.early_stop import EarlyStop, Patience
from cnnforge.train.loop import evaluate, fit
from cnnforge.train.metrics import Sums
from cnnforge.train.recipe import Progress, Recipe, Silent
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


def run(watcher, progress=None, validation=True, train=None, ahead=False, samples=None, **changes):
    built, evaluation = engines()
    train = train or built
    return fit(
        train.exe, evaluation.exe, samples or source(), source(shuffle=False) if validation else None,
        recipe(**changes), watcher, progress or Progress(), ahead=ahead,
    )  # fmt: skip


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "cnnforge-batches"]


def test_counters_and_partial_last_batch():
    seen = Recorder()
    history = run(seen)
    assert [s[2] for s in seen.steps] == list(range(1, 16)), "23 samples in fives: five steps an epoch"
    assert [s[:2] for s in seen.steps[:6]] == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 1)]
    assert [e[0] for e in seen.epochs] == [1, 2, 3]
    assert len(history) == 3
    assert set(history[0]) == {
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "samples_per_second",
        "data_wait",
    }
    assert all(0 < metrics["data_wait"] < 1 for metrics in history)


def test_metrics_come_every_log_every_steps_and_at_the_end():
    seen = Recorder()
    run(seen)
    assert [s[2] for s in seen.steps if s[3]] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert set(seen.steps[1][3]) == {
        "step/train_loss", "step/train_accuracy", "step/lr", "step/samples_per_second",
    }  # fmt: skip


def test_every_sample_counts_once_per_epoch():
    rows = source().epoch(2).rows
    assert sorted(rows.tolist()) == list(range(23))
    assert rows.tolist() != source().epoch(3).rows.tolist()


def test_max_steps_ends_within_an_epoch():
    seen = Recorder()
    run(seen, max_steps=7)
    assert len(seen.steps) == 7
    assert len(seen.epochs) == 2


def test_the_schedule_reaches_the_optimizer():
    seen = Recorder()
    run(seen, log_every=1, schedule=SCHEDULES["cosine"](type="cosine"))
    rates = [s[3]["step/lr"] for s in seen.steps]
    assert rates[0] == pytest.approx(0.05)
    assert all(a > b for a, b in pairwise(rates))
    assert rates[-1] < 0.001


@pytest.mark.parametrize("ahead", [False, True])
def test_a_stopped_and_continued_run_is_the_uninterrupted_one_bit_for_bit(ahead):
    whole, _ = engines()
    run(Silent(), train=whole)
    pieces, _ = engines()
    progress = Progress()
    for limit in (3, 4, 2):
        watcher = Recorder(limit)
        with pytest.raises(InterruptedRun):
            run(watcher, progress, train=pieces, ahead=ahead)
        assert watcher.saved == [progress.step]
    run(Silent(), progress, train=pieces, ahead=ahead)
    for name, array in whole.exe.weights.params.items():
        np.testing.assert_array_equal(pieces.exe.weights.params[name], array)


def test_batches_made_ahead_are_the_same_batches():
    here, there = Recorder(), Recorder()
    run(here, log_every=1)
    history = run(there, log_every=1, ahead=True)
    timed = ("step/samples_per_second", "samples_per_second", "data_wait")
    for one, two in zip(here.steps, there.steps, strict=True):
        assert one[:3] == two[:3]
        assert {k: v for k, v in one[3].items() if k not in timed} == {
            k: v for k, v in two[3].items() if k not in timed
        }
    assert len(history) == 3
    assert all(0 < metrics["data_wait"] < 1 for metrics in history)
    assert not threads()


def test_validation_in_the_same_arena_does_not_disturb_batches_made_ahead():
    """The next epoch's first batches are made while the evaluation plan uses the memory of the training plan."""

    def trained(ahead):
        device = create("numpy")
        plans = [
            make_plan(graph, device.capabilities)
            for graph in (train_graph(SPEC, 5, "float64", 0, SGD), eval_graph(SPEC, 5, "float64"))
        ]
        weights = Weights(plans[0], device)
        weights.initialise(plans[0], 0)
        arena = device.buffer(max(plan.sizes["arena"] for plan in plans))
        executables = [Executable(plan, device, weights, arena) for plan in plans]
        history = fit(*executables, source(), source(shuffle=False), recipe(), Silent(), Progress(), ahead=ahead)
        return [metrics["train_loss"] for metrics in history], {k: v.copy() for k, v in weights.params.items()}

    (losses, params), (losses_ahead, params_ahead) = trained(False), trained(True)
    assert losses == losses_ahead
    for name, array in params.items():
        np.testing.assert_array_equal(params_ahead[name], array)


class Broken(Batches):
    """Fails at step 2 of epoch 1."""

    error = OSError("the disk is gone")

    def fill(self, epoch, step, x, labels):
        if step == 2 and epoch.rows.tolist() == self.epoch(1).rows.tolist():
            raise self.error
        return super().fill(epoch, step, x, labels)


@pytest.mark.parametrize("ahead", [False, True])
def test_what_goes_wrong_with_a_batch_is_raised_where_it_is_needed(ahead):
    samples = Broken(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=True)
    seen, progress = Recorder(), Progress()
    with pytest.raises(OSError, match="the disk is gone") as error:
        run(seen, progress, samples=samples, ahead=ahead)
    assert error.value is Broken.error
    assert (progress.step, progress.epoch, progress.step_in_epoch) == (7, 1, 2), "all before it were trained on"
    assert not threads()


class Impatient(Silent):
    """Raises what it is given after the third step."""

    def __init__(self, error):
        self.error = error

    def step(self, progress, metrics):
        assert threads()
        if progress.step == 3:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_the_thread_ends_with_the_loop_however_that_ends(error):
    with pytest.raises(error):
        run(Impatient(error), ahead=True)
    assert not threads()


def test_a_run_that_is_over_draws_nothing():
    class Untouched(Batches):
        def epoch(self, number):
            raise AssertionError

    samples = Untouched(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=True)
    for ahead in (False, True):
        assert run(Silent(), Progress(epoch=3, step=15), samples=samples, ahead=ahead) == []


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


def test_a_plateau_slows_training_down_and_no_progress_ends_it(monkeypatch):
    plateau = SCHEDULES["plateau"](type="plateau", patience=1, gamma=0.5, metric="val_loss")
    stop = EarlyStop(patience=4)
    monkeypatch.setattr("cnnforge.train.loop.evaluate", lambda *a: {"val_loss": 1.0, "val_accuracy": 0.5})
    seen, progress = Recorder(), Progress()
    history = run(seen, progress, epochs=20, log_every=1, schedule=plateau, early_stop=stop)
    assert len(history) == 5, "the first is the best, four more are no better"
    assert progress.stopped
    assert (progress.course.scale, progress.patience.waited) == (0.25, 4)
    rates = [s[3]["step/lr"] for s in seen.steps]
    assert rates == pytest.approx([0.05] * 15 + [0.025] * 10)


def test_what_schedule_and_patience_remember_survives_a_stop(monkeypatch):
    plateau = SCHEDULES["plateau"](type="plateau", patience=0, gamma=0.5)
    whole, _ = engines()
    run(Silent(), train=whole, epochs=4, schedule=plateau, early_stop=EarlyStop(patience=3))
    pieces, _ = engines()
    progress = Progress()
    for limit in (7, 6):
        with pytest.raises(InterruptedRun):
            run(Recorder(limit), progress, train=pieces, epochs=4, schedule=plateau, early_stop=EarlyStop(patience=3))
    run(Silent(), progress, train=pieces, epochs=4, schedule=plateau, early_stop=EarlyStop(patience=3))
    for name, array in whole.exe.weights.params.items():
        np.testing.assert_array_equal(array, pieces.exe.weights.params[name])


def test_early_stopping_looks_at_what_there_is():
    stop = EarlyStop(metric="val_accuracy", patience=2, min_delta=0.01)
    seen = Patience()
    for accuracy, waited in ((0.5, 0), (0.505, 1), (0.52, 0), (0.1, 1), (0.2, 2)):
        seen = stop.after_epoch(seen, {"val_accuracy": accuracy, "train_loss": 1.0})
        assert seen.waited == waited
    assert stop.is_over(seen)
    assert EarlyStop().after_epoch(Patience(), {"train_loss": 2.0}).best == 2.0
    assert stop.after_epoch(Patience(), {"train_loss": 2.0}).best == -2.0


NO_DRAWS = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [4, 4, 1],
        "layers": {
            "c": {"type": "conv", "filters": 2, "kernel": 3, "activation": "tanh"},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)


def gathered(batch, accumulate, dtype="float64", backend="numpy", clip=None, watcher=None, progress=None, made=None):
    """Weights after training in batches of ``batch``, each update of ``accumulate`` of them."""
    optimizer = SGD.model_copy(update={"clip": clip})
    train = made or build(
        NO_DRAWS, batch=batch, optimizer=optimizer, dtype=dtype, backend=backend, gather=accumulate > 1
    )
    samples = Batches(Split(X, Y), Preprocessing.identity(SPEC.input), batch, seed=7, shuffle=True)
    settings = Recipe(optimizer, ConstantSchedule(type="constant"), SPEC.effective_loss, 3, log_every=1,
                      accumulate=accumulate)  # fmt: skip
    evaluation = build(NO_DRAWS, batch=batch, training=False, dtype=dtype, backend=backend)
    history = fit(train.exe, evaluation.exe, samples, None, settings, watcher or Silent(), progress or Progress())
    return {name: np.array(array) for name, array in train.exe.weights.params.items()}, history


@pytest.mark.parametrize("clip", [None, Clip(norm=0.1), Clip(value=0.01)], ids=["free", "norm", "value"])
@pytest.mark.parametrize(("backend", "dtype", "close"), [("numpy", "float64", 1e-12), ("numba", "float32", 1e-5)])
def test_several_batches_of_an_update_are_one(backend, dtype, close, clip):
    """23 samples: an epoch of updates of 10, 10 and 3."""
    seen = [Recorder(), Recorder()]
    whole, one = gathered(10, 1, dtype, backend, clip, seen[0])
    parts, several = gathered(5, 2, dtype, backend, clip, seen[1])
    for name, array in whole.items():
        np.testing.assert_allclose(parts[name], array, rtol=close, atol=close)
    assert [m["train_loss"] for m in several] == pytest.approx([m["train_loss"] for m in one], rel=1e-4)
    assert [s[2] for s in seen[1].steps] == list(range(1, 10))
    assert [s[1] for s in seen[1].steps][:3] == [2, 4, 5]
    for a, b in zip(seen[0].steps, seen[1].steps, strict=True):
        assert a[3]["step/train_loss"] == pytest.approx(b[3]["step/train_loss"], rel=1e-4)


def test_what_was_gathered_survives_a_stop():
    whole, _ = gathered(5, 2)
    made = build(NO_DRAWS, batch=5, optimizer=SGD, gather=True)
    progress = Progress()
    for limit in (2, 3):
        with pytest.raises(InterruptedRun):
            gathered(5, 2, watcher=Recorder(limit), progress=progress, made=made)
    pieces, _ = gathered(5, 2, progress=progress, made=made)
    for name, array in whole.items():
        np.testing.assert_array_equal(pieces[name], array)
