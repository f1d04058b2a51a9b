"""Losses that a device adds up by itself come to the same as those that are looked at one by one, only later."""

import numpy as np
import pytest

from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.errors import DivergedError, InterruptedRun
from cnnforge.optim import OPTIMIZERS
from cnnforge.schedules import ConstantSchedule
from cnnforge.spec import ModelSpec
from cnnforge.train.loop import evaluate, fit
from cnnforge.train.losses import AtOnce, Tallied, losses_of
from cnnforge.train.ranks import ALONE, Alone
from cnnforge.train.recipe import Progress, Recipe, Silent
from tests.building import build
from tests.devices import EMULATED

SPEC = ModelSpec.model_validate(
    {
        "name": "t",
        "input": [4, 4, 1],
        "layers": {
            "c": {"type": "conv", "filters": 2, "kernel": 3},
            "n": {"type": "batch_norm"},
            "a": {"type": "activation", "function": "relu"},
            "d": {"type": "dropout", "rate": 0.25},
            "o": {"type": "fc", "units": 3, "activation": "softmax"},
        },
    }
)
PLAIN = ModelSpec.model_validate(
    {"name": "t", "input": [4, 4, 1], "layers": {"o": {"type": "fc", "units": 3, "activation": "softmax"}}}
)
SGD = OPTIMIZERS["sgd"](type="sgd", lr=0.05, momentum=0.9)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(23, 4, 4, 1)), RNG.integers(0, 3, 23)
LAYERS = {row.path: row.name for row in SPEC.table}
TIMES = ("samples_per_second", "data_wait", "step/samples_per_second")


class Recorder(Silent):
    """Keeps what it is told; asks to stop after ``limit`` steps.

    saving: after which steps it would write a checkpoint;  device: whose reads are counted
    """

    def __init__(self, limit=None, saving=(), device=None):
        self.limit, self.saving, self.device = limit, saving, device
        self.steps, self.sums, self.reads, self.saved = [], {}, [], []

    def saves(self, progress):
        return progress.step in self.saving

    def step(self, progress, metrics):
        self.steps.append({name: value for name, value in metrics.items() if name not in TIMES})
        self.reads.append(self.device.reads if self.device else 0)
        if self.saves(progress):
            self.sums[progress.step] = progress.sums.loss, progress.sums.hits, progress.sums.samples

    def stopping(self):
        return InterruptedRun("interrupted") if self.limit == len(self.steps) else None

    def interrupted(self, progress):
        self.saved.append((progress.step, progress.step_in_epoch))


def made(backend=EMULATED, training=True, accumulate=1, dtype="float64", optimizer=SGD, spec=SPEC):
    rule = optimizer if training else None
    late = backend == EMULATED
    built = build(
        spec, batch=5, dtype=dtype, training=training, optimizer=rule, backend=backend, gather=accumulate > 1,
        tally=late,
    )  # fmt: skip
    assert isinstance(losses_of(built.exe, ALONE), Tallied if late else AtOnce)
    return built.exe


def trained(watcher, exe, progress=None, x=X, ahead=False, evaluation=None, optimizer=SGD, **changes):
    samples = Batches(Split(x, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=True)
    settings = {"epochs": 3, "log_every": 4, "layers": LAYERS, **changes}
    recipe = Recipe(optimizer, ConstantSchedule(type="constant"), SPEC.effective_loss, **settings)
    validation = samples if evaluation else None
    history = fit(exe, evaluation or exe, samples, validation, recipe, watcher, progress or Progress(), ahead=ahead)
    return [{name: value for name, value in means.items() if name not in TIMES} for means in history]


def kept(exe):
    return {name: np.array(array) for name, array in exe.kept.items()}


def same(one, two):
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_numbers_are_those_of_losses_read_one_by_one(accumulate):
    saving = (1, 2, 6, 7)
    late, soon = Recorder(saving=saving), Recorder(saving=saving)
    ours = trained(late, made(accumulate=accumulate), accumulate=accumulate)
    theirs = trained(soon, made("numpy", accumulate=accumulate), accumulate=accumulate)
    assert len(ours) == len(theirs) == 3
    for found, expected in ((ours, theirs), (late.steps, soon.steps)):
        for a, b in zip(found, expected, strict=True):
            assert a == pytest.approx(b, rel=1e-9)
    for step in saving:
        assert late.sums[step] == pytest.approx(soon.sums[step], rel=1e-9)


def test_nothing_is_read_before_numbers_are_wanted():
    exe, evaluation = made(), made(training=False)
    device = exe.backend.device
    device.reads, get = 0, device.get
    evaluation.backend = exe.backend

    def counted(array):
        device.reads += 1
        return get(array)

    device.get = counted
    seen = Recorder(device=device, saving=(6,))
    trained(seen, exe, evaluation=evaluation)
    steps = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    read = [step for step, before, now in zip(steps, [0, *seen.reads], seen.reads, strict=False) if now > before]
    assert read == [4, 6, 8, 11, 12, 15], "every fourth, the last, a checkpoint; 6 and 11 come after an epoch's end"
    assert seen.reads[0] == seen.reads[2] == 0
    assert seen.reads[3] == 3, "the batch's losses, its hits, and what the device keeps"
    at_the_end = seen.reads[5] - seen.reads[4]
    assert at_the_end == 1 + 1 + 1, "the epoch's sums, those of validation, and the checkpoint"


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_and_continued_run_is_the_uninterrupted_one_bit_for_bit(ahead, accumulate):
    whole = made(accumulate=accumulate)
    history = trained(Silent(), whole, accumulate=accumulate)
    pieces, progress, ours = made(accumulate=accumulate), Progress(), []
    for limit in (2, 3):
        with pytest.raises(InterruptedRun):
            trained(Recorder(limit, saving=(1,)), pieces, progress, ahead=ahead, accumulate=accumulate, log_every=3)
        ours.append(dict(progress.metrics))
    rest = trained(Silent(), pieces, progress, ahead=ahead, accumulate=accumulate)
    assert rest == history[3 - len(rest) :], "to the last bit, whoever has read them in between"
    assert 0 < len(rest) < 3 or accumulate == 1
    same(kept(pieces), kept(whole))


def poisoned(step):
    """The samples with a number that is not finite in batch ``step`` of the second epoch; its number."""
    samples = Batches(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=True)
    return int(samples.rows(1, step)[1])


class Turned(Batches):
    """A sample whose pixel is not a number, from the second epoch on."""

    def __init__(self, row):
        super().__init__(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=True)
        self.row = row

    def fill(self, epoch, step, x, labels):
        n = super().fill(epoch, step, x, labels)
        if epoch.rows.tolist() != self.epoch(0).rows.tolist():
            for i, row in enumerate(epoch.rows[step * 5 : step * 5 + n]):
                if row == self.row:
                    (x if isinstance(x, np.ndarray) else x.pixels())[i, 0, 0, 0] = np.nan
        return n


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("accumulate", "batch", "step", "whole"), [(1, 1, 7, True), (2, 3, 5, False)])
def test_divergence_is_noticed_late_and_told_as_if_at_once(ahead, accumulate, batch, step, whole):
    """With two batches of an update it is the second of them: only late is there a checkpoint, of what was before."""
    row = poisoned(batch)

    def failed(backend):
        exe, progress, seen = made(backend, accumulate=accumulate), Progress(), Recorder()
        settings = Recipe(
            SGD, ConstantSchedule(type="constant"), SPEC.effective_loss, 3, log_every=100, layers=LAYERS,
            accumulate=accumulate,
        )  # fmt: skip
        with pytest.raises(DivergedError) as error:
            fit(exe, exe, Turned(row), None, settings, seen, progress, ahead=ahead)
        return str(error.value), exe, progress, seen

    (ours, exe, progress, seen), (theirs, _, soon, saw) = failed(EMULATED), failed("numpy")
    assert ours == theirs
    assert f"the loss is nan at step {step}" in ours
    assert f"an input is nan or infinite; samples {row} (1 of the batch)" in ours
    assert len(seen.steps) > len(saw.steps) == step - 1
    place = progress.epoch, progress.step, progress.step_in_epoch
    assert place == (soon.epoch, soon.step, soon.step_in_epoch) == (1, step - 1, (batch // accumulate) * accumulate)
    sums = [(p.sums.loss, p.sums.hits, p.sums.samples) for p in (progress, soon)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-9)
    assert seen.saved == [(step - 1, progress.step_in_epoch)]
    assert saw.saved == (seen.saved if whole else [])
    good = made(accumulate=accumulate)
    trained(Silent(), good, accumulate=accumulate, max_steps=step - 1)
    same(kept(exe), kept(good))


def test_divergence_by_the_learning_rate():
    wild = OPTIMIZERS["sgd"](type="sgd", lr=1e38)
    exe = made(dtype="float32", optimizer=wild, spec=PLAIN)
    with pytest.raises(DivergedError) as error:
        trained(Silent(), exe, optimizer=wild, log_every=100)
    assert "training diverged: the loss is" in str(error.value)
    assert "fix:   a smaller learning rate, e.g. optimizer.lr=1e+37" in str(error.value)


def test_a_training_that_diverged_can_be_begun_again():
    exe = made()
    with pytest.raises(DivergedError, match="the loss is nan at step 1\n"):
        trained(Silent(), exe, x=np.full_like(X, np.nan), log_every=2)
    same(kept(exe), kept(made()))
    progress = Progress()
    trained(Silent(), exe, progress)
    assert progress.step == 15
    whole = made()
    trained(Silent(), whole)
    same(kept(exe), kept(whole))  # nothing is left out any more


def test_evaluation_adds_up_on_the_device_too():
    ours, theirs = made(training=False), made("numpy", training=False)
    samples = Batches(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=False)
    expected = evaluate(theirs, samples, SPEC.effective_loss, "val")
    for _ in range(2):
        assert evaluate(ours, samples, SPEC.effective_loss, "val") == pytest.approx(expected, rel=1e-12)
    given = []
    evaluate(ours, samples, SPEC.effective_loss, "val", keep=lambda *answers: given.append(answers))
    assert sum(float(losses.sum()) for _, losses in given) / 23 == pytest.approx(expected["val_loss"])


def test_a_loss_that_is_not_finite_stops_no_evaluation():
    ours = made(training=False)
    broken = Batches(Split(np.full_like(X, np.nan), Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=False)
    assert np.isnan(evaluate(ours, broken, SPEC.effective_loss, "val")["val_loss"])
    samples = Batches(Split(X, Y), Preprocessing.identity(SPEC.input), 5, seed=7, shuffle=False)
    assert np.isfinite(evaluate(ours, samples, SPEC.effective_loss, "val")["val_loss"])


def test_several_processes_look_at_every_loss():
    ranks = Alone()
    ranks.size = 2
    assert isinstance(losses_of(made("numpy"), ranks), AtOnce)
    with pytest.raises(AssertionError, match="each sees a part"):
        losses_of(made(), ranks)
