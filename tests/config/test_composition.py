"""Composing: groups, search path, experiments, and files that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnforge.config import compose, validate
from cnnforge.errors import ConfigErrors

ROOT = Path(__file__).parents[2]
Write = Callable[[str, str], Path]
Mistakes = Callable[..., list[str]]
MINE = "name: mine\ninput: [8, 8, 1]\nlayers:\n  f: {type: fc, units: 10, activation: softmax}\n"


def test_defaults() -> None:
    composed = compose([])
    spec = validate(composed)
    assert (spec.model.name, spec.data.type, spec.optimizer.type, spec.schedule.type) == (
        "lenet",
        "digits",
        "adam",
        "constant",
    )
    assert (spec.seed, spec.run.dir, spec.tracking.enabled) == (0, "runs", True)
    assert composed.named == frozenset()
    assert "defaults" not in composed.tree


def test_what_a_person_named(write: Write) -> None:
    assert compose(["model=lenet5", "trainer.epochs=3"]).named == {"model", "trainer"}
    write("experiment/e.yaml", "# @package _global_\ndefaults:\n  - override /data: mnist\nrun: {name: e}\n")
    assert compose(["experiment=e"]).named == {"experiment", "data", "run"}


def test_the_users_own_groups_come_before_the_shipped_ones(write: Write) -> None:
    write("model/mine.yaml", MINE)
    write("model/lenet.yaml", MINE.replace("mine", "my_lenet"))
    assert compose(["model=mine"]).tree["model"]["name"] == "mine"
    assert compose([]).tree["model"]["name"] == "my_lenet"
    assert compose(["model=lenet5"]).tree["model"]["name"] == "lenet5"
    assert compose([]).where(("model", "name")) == "configs/model/lenet.yaml:1:1 (model.name)"


def test_config_dir_takes_the_place_of_configs(write: Write, tmp_path: Path) -> None:
    write("model/lenet.yaml", MINE)
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "mine.yaml").write_text(MINE)
    assert compose(["model=mine"], config_dir=Path("other")).tree["model"]["name"] == "mine"
    assert compose([], config_dir=Path("other")).tree["model"]["name"] == "lenet"


def test_a_config_dir_that_is_not_there() -> None:
    with pytest.raises(ConfigErrors) as caught:
        compose([], config_dir=Path("nowhere"))
    assert str(caught.value) == (
        "nowhere: no such folder\n  where: --config-dir nowhere\n"
        "  why:   your own config groups are looked for in a folder\n"
        "  fix:   a folder that holds model/, data/ …; cnnforge init DIR makes one, DIR/configs"
    )


def test_a_root_that_is_not_there(write: Write) -> None:
    write("model/mine.yaml", MINE)
    with pytest.raises(ConfigErrors) as caught:
        compose([], config_name="trian")
    assert "trian.yaml: no such config" in str(caught.value)


def test_a_model_that_builds_on_another(write: Write) -> None:
    write("model/wide.yaml", "defaults:\n  - lenet\nname: wide\nlayers:\n  conv1: {filters: 32}\n")
    composed = compose(["model=wide"])
    layers = composed.tree["model"]["layers"]
    assert (composed.tree["model"]["name"], layers["conv1"]["filters"], layers["conv1"]["kernel"]) == ("wide", 32, 5)
    assert composed.where(("model", "layers", "conv1", "filters")) == (
        "configs/model/wide.yaml:5:11 (model.layers.conv1.filters)"
    )
    assert "model/lenet.yaml:7:" in composed.where(("model", "layers", "pool1"))


def test_a_package_of_its_own(write: Write) -> None:
    write("nets/mine.yaml", "# @package model\n" + MINE)
    assert compose(["+nets=mine"]).tree["model"]["name"] == "mine"


def test_an_experiment_is_laid_over_everything(write: Write) -> None:
    write(
        "experiment/e.yaml",
        "# @package _global_\ndefaults:\n  - override /optimizer: sgd\noptimizer: {lr: 2}\nseed: 5\n",
    )
    tree = compose(["experiment=e"]).tree
    assert (tree["optimizer"], tree["seed"]) == ({"type": "sgd", "lr": 2}, 5)
    assert compose(["experiment=e", "optimizer=adam"]).tree["optimizer"] == {"type": "adam", "lr": 2}


def test_lists_are_replaced_and_stale_marks_go(write: Write) -> None:
    write("experiment/e.yaml", "# @package _global_\nmodel: {input: [1]}\n")
    composed = compose(["experiment=e"])
    assert composed.tree["model"]["input"] == [1]
    assert composed.where(("model", "input", 2)) == "configs/experiment/e.yaml:2:9 (model.input[2])"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults:\n  - override /model: lenett\n",
            "model: there is no 'lenett'\n  where: configs/experiment/e.yaml:3:5 (model)\n"
            "  why:   model has 35 configs; most like it are lenet, lenet5, lenet4, lenet1, alexnet, googlenet\n"
            "  fix:   did you mean 'lenet'?",
        ),
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults:\n  - override /model: [a]\n",
            "not an entry of a defaults list: {'override /model': ['a']}\n"
            "  where: configs/experiment/e.yaml:3:5 (defaults[0])\n"
            "  why:   an entry is 'group: option', 'override /group: option', a config's name, or _self_\n"
            "  fix:   for example '- model: lenet'",
        ),
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults: {model: lenet}\n",
            "defaults must be a list\n  where: configs/experiment/e.yaml:2:1 (defaults)\n"
            "  why:   it names the configs to start from\n  fix:   for example '- model: lenet'",
        ),
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults:\n  - override /nothing: x\n",
            "the config cannot be composed\n  where: configs/experiment/e.yaml\n"
            "  why:   Could not override 'nothing'. No match in the defaults list.\n"
            "  fix:   check the defaults lists and the group overrides",
        ),
        (
            "experiment/e.yaml",
            "# @package _global_\ndefaults:\n  - ../../x\n",
            "not an entry of a defaults list: ../../x\n  where: configs/experiment/e.yaml:3:5 (defaults[0])\n"
            "  why:   an entry is 'group: option', 'override /group: option', a config's name, or _self_\n"
            "  fix:   for example '- model: lenet'",
        ),
        (
            "experiment/e.yaml",
            "defaults:\n  - e\n",
            "the config cannot be composed\n  where: "
            + str(ROOT / "configs/train.yaml")
            + "\n  why:   it leads back to itself, or is nested too deeply\n"
            "  fix:   check the defaults lists and the group overrides",
        ),
        (
            "experiment/e.yaml",
            "",
            "the file is empty\n  where: configs/experiment/e.yaml\n  why:   a config is a mapping, and there is none\n"
            "  fix:   write at least one 'key: value', or remove the file",
        ),
    ],
)
def test_a_file_that_is_wrong(name: str, text: str, message: str, write: Write, mistakes: Mistakes) -> None:
    write(name, text)
    assert mistakes("experiment=e") == [message]


def test_several_files_that_cannot_be_read(write: Write, mistakes: Mistakes) -> None:
    write("model/a.yaml", "a: [\n")
    write("optimizer/b.yaml", "- 1\n")
    assert [text.split("\n")[0] for text in mistakes("model=a", "optimizer=b")] == [
        "a config is a mapping of keys to values, not a list",
        "not YAML: did not find expected node content",
    ]


def test_a_missing_value(mistakes: Mistakes) -> None:
    assert mistakes("data=npz") == [
        "data.path must be given\n  where: configs/data/npz.yaml:4:1 (data.path)\n"
        "  why:   the file leaves it open with ???\n  fix:   data.path=…"
    ]
    assert mistakes("data=npz", "data.path=x.npz") == []
