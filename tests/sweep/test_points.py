"""Replicas of a point."""

from cnnforge.config import compose, validate
from cnnforge.spec.sweep import Replicate
from cnnforge.sweep.points import replicas


def names(*words, **replicate):
    spec = validate(compose(words))
    found = replicas(spec, Replicate.model_validate(replicate))
    return [(name, run.seed, run.data.fold) for name, run in found.items()]


def test_one_run_has_no_name():
    assert names("seed=3") == [("", 3, None)]
    assert names("seed=3", seeds=[7]) == [("", 7, None)]
    assert names("data.folds=3", "data.fold=2") == [("", 0, 2)]


def test_seeds_and_folds():
    assert names(seeds=[1, 2]) == [("seed-1", 1, None), ("seed-2", 2, None)]
    assert names("data.folds=2") == [("fold-1", 0, 1), ("fold-2", 0, 2)]
    assert names("data.folds=2", seeds=[1, 5]) == [
        ("seed-1-fold-1", 1, 1), ("seed-1-fold-2", 1, 2), ("seed-5-fold-1", 5, 1), ("seed-5-fold-2", 5, 2),
    ]  # fmt: skip
