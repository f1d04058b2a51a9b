"""What is read without Hydra is read as Hydra reads it, and the rest is left to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cnnforge.config import beyond, compose, plain
from cnnforge.config.sources import Repository, shipped

KEYS = st.sampled_from(["model", "optimizer.lr", "a.b-c", "a.0.b", "_x", "1a", "a..b", "a b", "é"]) | st.text(
    st.sampled_from("ab_-01./$"), min_size=1, max_size=8
)
VALUES = (
    st.integers(-(10**20), 10**20).map(str)
    | st.floats().map(repr)
    | st.text(st.sampled_from("aeE01.-+_tTrun ,[]{}:'\"$\\/=~@"), max_size=8)
    | st.sampled_from(
        ["true", "True", "null", "NULL", "nan", "inf", "-inf", "1_000", "012", "yes", "1e5", "1.", ".5", "-0"]
    )
)


@settings(max_examples=300)
@given(st.sampled_from(["", "", "+", "++", "~"]), KEYS, st.just("=") | st.just(""), VALUES)
def test_a_plain_override_is_what_hydra_reads(prefix: str, key: str, equals: str, value: str) -> None:
    text = f"{prefix}{key}{equals}{value}"
    mine = plain.parse(text)
    if mine is not None:
        assert repr(mine) == repr(beyond.parse(text))


@pytest.mark.parametrize(
    "text",
    ["model=lenet", "optimizer.lr=0.1", "~model.layers.pool2", "+a.b=true", "seed=-3", "x=1e-3", "model=course/edges"],
)
def test_what_people_type_is_plain(text: str) -> None:
    assert plain.parse(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "a=[1,2]",
        "a={b: 1}",
        "a=1,2",
        "a='x'",
        "a=",
        "a@b=c",
        "~a=1",
        "a=1_000",
        "a=TRUE",
        "a=nan",
        "a=b/null",
        "a=b/1",
        "a=/b",
    ],
)
def test_the_rest_is_not(text: str) -> None:
    assert plain.parse(text) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configs, an experiment that overrides several groups, and one that another builds on."""
    folder = tmp_path_factory.mktemp("configs")
    shutil.copytree(shipped(), folder, dirs_exist_ok=True)
    (folder / "experiment" / "many.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optimizer: momentum\n  - override /model: lenet5\n"
        "optimizer: {lr: 0.5}\nmodel: {layers: {conv1: {filters: 7}}}\n"
    )
    (folder / "experiment" / "more.yaml").write_text(
        "# @package _global_\ndefaults:\n  - many\n  - override /trainer: quick\nseed: 7\n"
    )
    return folder


def by_hydra(folder: Path, overrides: list[str]) -> object:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_container(hydra_compose("train", overrides=overrides), resolve=True)


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["lenet", "lenet5", "edge_detector"]),
        "optimizer": st.sampled_from(["sgd", "adam", "nesterov"]),
        "trainer": st.sampled_from(["default", "quick"]),
        "experiment": st.sampled_from(["lenet_mnist", "lenet_digits", "many", "more"]),
    },
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=CHOICES)
def test_the_whole_config_is_what_hydra_composes(folder: Path, choices: dict[str, str]) -> None:
    overrides = [f"{group}={option}" for group, option in choices.items()] + ["optimizer.lr=0.25", "seed=3"]
    assert compose(overrides, config_dir=folder).tree == by_hydra(folder, overrides)


def test_an_experiment_on_an_experiment_goes_to_hydra(folder: Path) -> None:
    repository = Repository([folder])
    assert plain.defaults_list(repository, "train", {"experiment": "more"}) is None
    assert plain.defaults_list(repository, "train", {"experiment": "many"}) is not None
    tree = compose(["experiment=more"], config_dir=folder).tree
    assert tree == by_hydra(folder, ["experiment=more"])
    assert (tree["seed"], tree["optimizer"]["lr"], tree["trainer"]["epochs"]) == (7, 0.5, 1)


def test_without_hydras_inner_parts_plain_configs_still_compose(
    monkeypatch: pytest.MonkeyPatch, mistakes: Callable[..., list[str]]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cnnforge.config.beyond", None)
    monkeypatch.delattr("cnnforge.config.beyond")
    assert compose(["model=lenet5", "experiment=lenet_mnist"]).tree["model"]["name"] == "lenet5"
    (message,) = mistakes("model.input=[32,32,3]")
    assert message.startswith("only plain overrides can be read\n  where: <override 'model.input=[32,32,3]'>")
    assert message.endswith("fix:   pip install 'hydra-core>=1.3.8,<1.4'")
