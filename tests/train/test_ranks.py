"""One training by several ranks is the training by one, up to the order in which numbers are added up."""

import numpy as np
import pytest

from cnnforge.backends.cupy import cuda
from cnnforge.config import compose, validate
from cnnforge.data import load
from cnnforge.errors import DataError, DivergedError, InterruptedRun
from cnnforge.spec import ModelSpec
from cnnforge.train.loop import evaluate, fit
from cnnforge.train.ranks import ALONE, shard
from cnnforge.train.recipe import Progress, Silent
from cnnforge.train.setup import backend_of, same_data, set_up
from cnnforge.train.work import recipe_of
from tests.emulated import open_device
from tests.ranks import together

NET = {
    "name": "t",
    "input": [8, 8, 1],
    "layers": {
        "conv": {"type": "conv", "filters": 4, "kernel": 3, "activation": "relu"},
        "pool": {"type": "pool", "kernel": 2},
        "drop": {"type": "dropout", "rate": 0.25},
        "fc": {"type": "fc", "units": 8, "activation": "tanh"},
        "drop2": {"type": "dropout", "rate": 0.1},
        "out": {"type": "fc", "units": 10, "activation": "softmax"},
    },
}
# No bias before a norm: its gradient is 0 but for rounding, which Adam blows up.
NORMED = NET | {
    "layers": {
        "conv": {"type": "conv", "filters": 4, "kernel": 3, "bias": False},
        "norm": {"type": "batch_norm", "activation": "relu"},
        "pool": {"type": "pool", "kernel": 2},
        "block": {"type": "residual", "layers": {
            "a": {"type": "conv", "filters": 4, "kernel": 3, "padding": "same", "bias": False},
            "norm": {"type": "batch_norm"},
        }},
        "drop": {"type": "dropout", "rate": 0.25},
        "out": {"type": "fc", "units": 10, "activation": "softmax"},
    }
}  # fmt: skip
WEIGHTED = {"type": "softmax_cross_entropy", "class_weights": [1, 2, 3, 4, 5, 0, 7, 8, 9, 3], "label_smoothing": 0.1}
#: 53 samples in batches of 12: the last is of 5.
WORDS = [
    "data=synthetic", "data.samples=60", "data.test_samples=7", "data.noise=1", "trainer.batch_size=12",
    "trainer.epochs=3", "trainer.precision=float64", "trainer.backend=numpy", "augment=flip_crop",
    "augment.crop.padding=1", "trainer.log_every=1", "trainer.stats_every=2",
]  # fmt: skip


class Recorder(Silent):
    """Keeps the metrics of every step."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def step(self, progress, metrics):
        self.seen.append({k: v for k, v in metrics.items() if "samples_per_second" not in k})

    def stopping(self):
        return InterruptedRun("stop") if len(self.seen) == self.stop_after else None


def spec(net=NET, *words):
    made = validate(compose([*WORDS, *words]), match_data=False)
    return made.model_copy(update={"model": ModelSpec.model_validate(net)})


def trained(made, ranks, watcher=None):
    """(weights and state, metrics by step, metrics by epoch, test metrics)"""
    data = load(made.data, made.model.input, made.seed, lambda note: None)
    device = backend_of(made, ranks)
    device.join()
    setup = set_up(made, data, device, lambda note: None, lambda done, total: None, {}, ranks)
    watcher = watcher or Recorder()
    history = fit(
        setup.train, setup.evaluation, setup.samples, setup.validation, recipe_of(made, setup), watcher, Progress(),
        ahead=True, averages=setup.averages, ranks=ranks,
    )  # fmt: skip
    tested = evaluate(setup.evaluation, setup.test, setup.loss, "test", ranks)
    timed = ("samples_per_second", "data_wait")
    history = [{k: v for k, v in metrics.items() if k not in timed} for metrics in history]
    weights = setup.train.weights
    return {k: device.get(v) for k, v in (weights.params | weights.state).items()}, watcher.seen, history, tested


def assert_close(one, other, close):
    for name, array in one[0].items():
        np.testing.assert_allclose(other[0][name], array, rtol=close, atol=close, err_msg=name)
    for mine, theirs in zip((*one[1], *one[2], one[3]), (*other[1], *other[2], other[3]), strict=True):
        assert theirs.keys() == mine.keys(), theirs.keys() ^ mine.keys()
        assert theirs == pytest.approx(mine, rel=close, abs=close)


CASES = {
    "plain": (NET, []),
    "gathered, clipped, averaged": (
        NET, ["trainer.accumulate=3", "optimizer.clip={norm: 0.05}", "trainer.ema={decay: 0.8}"],
    ),
    "synchronised": (NORMED, ["trainer.sync_batch_norm=true"]),
    "synchronised and gathered": (NORMED, ["trainer.sync_batch_norm=true", "trainer.accumulate=2"]),
    "frozen norm": (
        NORMED | {"layers": NORMED["layers"] | {"norm": {"type": "batch_norm", "trainable": False}}},
        ["trainer.sync_batch_norm=true"],
    ),
    "class weights": (NORMED | {"loss": WEIGHTED}, ["trainer.sync_batch_norm=true"]),
    "pairs": (NET | {"loss": WEIGHTED}, ["augment=none", "augment.mixup={rate: 0.5}", "augment.cutmix={rate: 0.5}"]),
    "late averages": (NORMED, ["trainer.sync_batch_norm=true", "trainer.swa={start: 0.4}"]),
    "muon": (NORMED, ["trainer.sync_batch_norm=true", "optimizer=muon"]),
}  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("case", CASES)
def test_several_are_one(case, size):
    """Shards of 2 and 1 samples, and of none: of 5 samples in the last batch there are none for two of seven."""
    made = spec(CASES[case][0], *CASES[case][1])
    alone = trained(made, ALONE)
    for found in together(size, lambda ranks: trained(made, ranks)):
        if isinstance(found, Exception):
            raise found
        assert_close(alone, found, 1e-10)


@pytest.mark.parametrize("words", [[], ["trainer.sync_batch_norm=true"]])
def test_compiled_kernels_too(words):
    made = spec(
        NORMED if words else NET, "trainer.backend=numba", "trainer.precision=float32", "trainer.threads=1", *words
    )
    alone = trained(made, ALONE)
    for found in together(2, lambda ranks: trained(made, ranks)):
        if isinstance(found, Exception):
            raise found
        assert_close(alone, found, 1e-4)


@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("synchronised and gathered", 3),
        *(pytest.param(case, 3, marks=pytest.mark.slow) for case in CASES if case != "synchronised and gathered"),
        pytest.param("class weights", 7, marks=pytest.mark.slow),
    ],
)
def test_on_gpus_too(case, size, monkeypatch, tmp_path):
    """GPUs that are not there, each with its own memory and a stream that does its work late, by NCCL's calls."""
    monkeypatch.setattr(cuda, "open_device", open_device)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what is fast here says nothing of a card
    made = spec(CASES[case][0], "trainer.backend=cupy", "trainer.epochs=2", *CASES[case][1])
    alone = trained(made.model_copy(update={"trainer": made.trainer.model_copy(update={"backend": "numpy"})}), ALONE)
    for found in together(size, lambda ranks: trained(made, ranks)):
        if isinstance(found, Exception):
            raise found
        assert_close(alone, found, 1e-9)


def test_local_norms_are_of_each_part_and_rank_0_has_the_statistics_that_count():
    made = spec(NORMED)
    alone, (first, second) = trained(made, ALONE), together(2, lambda ranks: trained(made, ranks))
    for name, array in first[0].items():
        np.testing.assert_array_equal(second[0][name], array, err_msg=name)
    assert first[2] == second[2]
    assert abs(alone[0]["norm.var"] - first[0]["norm.var"]).max() > 1e-4


@pytest.mark.parametrize("size", range(1, 6))
def test_pairs_stay_together(size):
    for n in range(12):
        parts = [shard(n, rank, size, 2) for rank in range(size)]
        assert [i for part in parts for i in part] == list(range(n))
        assert all(part.start % 2 == 0 for part in parts if part)
        assert len(parts[0]) == max(map(len, parts)) >= -(-n // size)


@pytest.mark.parametrize("size", range(1, 6))
def test_shards_are_neighbours_and_all_there_is(size):
    for n in range(12):
        parts = [shard(n, rank, size) for rank in range(size)]
        assert [i for part in parts for i in part] == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(parts[0]) == -(-n // size), "plans are made for the first"


def test_one_stops_all():
    made = spec()
    watchers = [Recorder(), Recorder(stop_after=4)]
    found = together(2, lambda ranks: trained(made, ranks, watchers[ranks.rank]))
    assert [type(error) for error in found] == [InterruptedRun] * 2
    assert [len(watcher.seen) for watcher in watchers] == [4, 4]


@pytest.mark.parametrize("words", [[], ["trainer.sync_batch_norm=true"]])
def test_all_diverge_with_the_same_words(words):
    made = spec(NORMED, "optimizer=sgd", "optimizer.lr=1e30", "trainer.stats_every=null", *words)
    found = together(3, lambda ranks: trained(made, ranks))
    assert [type(error) for error in found] == [DivergedError] * 3
    assert len(set(map(str, found))) == 1
    assert "is not finite" in str(found[0])


def test_other_data_are_found_out():
    made = spec()

    def compared(ranks):
        data = load(made.data, made.model.input, made.seed + (ranks.rank == 1), lambda note: None)
        same_data(data, ranks)

    found = together(2, compared)
    assert [type(error) for error in found] == [DataError] * 2
    assert str(found[0]) == (
        "synthetic: process 1 has other data than process 0\n  where: made from seed 0\n"
        "  why:   all processes train on shards of the same batches\n  fix:   the same files on every host"
    )
