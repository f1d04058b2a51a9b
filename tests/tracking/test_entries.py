"""MLflow's names and limits."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cnnforge.tracking.entries import Batch, cut, safe_name


def pair(*values: Any) -> tuple[Any, ...]:
    return values


@given(st.one_of(st.text(max_size=20), st.text(alphabet="./ab@", max_size=8)), st.integers(1, 60))
def test_every_name_becomes_one_that_mlflow_takes(part: str, times: int) -> None:
    name = part * times
    safe = safe_name(name)
    # mlflow.utils.validation: its pattern, its path rule, its length
    assert re.fullmatch(r"[/\w.\- :]+", safe)
    assert len(safe) <= 250
    assert posixpath.normpath(safe) == safe
    assert safe != "."
    assert not safe.startswith(("..", "/"))
    assert safe_name(safe) == safe


def test_good_names_stay() -> None:
    for name in ("train_loss", "lr/conv1.w", "val_top-5", "time: s"):
        assert safe_name(name) == name


@given(metrics=st.integers(0, 2500), params=st.integers(0, 250), tags=st.integers(0, 250))
def test_no_call_is_larger_than_mlflow_takes_and_nothing_is_left_out(metrics: int, params: int, tags: int) -> None:
    batch = Batch({})
    batch.metrics({f"m{i}": float(i) for i in range(metrics)}, step=3, time=17)
    for i in range(params):
        batch.param(f"p{i}", str(i))
    for i in range(tags):
        batch.tag(f"t{i}", str(i))
    calls = list(batch.calls(pair, pair, pair))
    for m, p, t in calls:
        assert len(m) <= 1000
        assert len(p) <= 100
        assert len(t) <= 100
        assert len(m) + len(p) + len(t) <= 1000
    assert [one for m, _, _ in calls for one in m] == [(f"m{i}", float(i), 17, 3) for i in range(metrics)]
    assert sum(len(p) for _, p, _ in calls) == params
    assert sum(len(t) for _, _, t in calls) == tags


def test_a_param_keeps_its_first_value_and_tells_the_second() -> None:
    batch = Batch({"lr": "0.1"})
    batch.param("lr", "0.1")
    batch.param("lr", "0.2")
    batch.param("epochs", "3")
    batch.param("epochs", "4")
    ((_, params, tags),) = batch.calls(pair, pair, pair)
    assert params == [("epochs", "3")]
    assert tags == [("param_changed.lr", "0.2"), ("param_changed.epochs", "4")]


def test_a_cut_says_so() -> None:
    assert cut("x" * 50, 50, "there") == "x" * 50
    short = cut("x" * 1051, 50, "there")
    assert len(short) == 50
    assert short.endswith(" [cut: 1,051 characters, there]")
