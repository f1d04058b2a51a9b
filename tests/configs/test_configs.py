"""Every shipped config composes and validates, and says what it promises."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate, warnings
from cnnforge.report.check import plan_of
from cnnforge.spec import RunSpec, TrainerSpec
from cnnforge.train.run import run as train

CONFIGS = Path(__file__).parents[2] / "configs"
OPTIONS = sorted((file.parent.name, file.stem) for file in CONFIGS.glob("*/*.yaml"))
NEEDS = {
    ("data", "image_folder"): ["data.path=x", "data.classes=10"],
    ("data", "manifest"): ["data.path=x.csv", "data.classes=10"],
    ("schedule", "step"): ["trainer.epochs=90"],
    ("schedule", "multi_step"): ["trainer.epochs=164"],
    ("data", "npz"): ["data.path=x.npz"],
}
#: Warnings that a shipped config keeps, by rule, with the reason.
KEEPS = {
    ("model", "edge_detector"): {"nothing-to-learn": "shows what a filter does before anything is learned"},
    **{("model", f"vgg{n}_bn"): {"bias-before-norm": "as published, weights and all"} for n in (11, 16, 19)},
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIGS.parent)


def run(*overrides: str) -> RunSpec:
    return validate(compose(overrides), match_data=False)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_validates_and_plans(group: str, option: str) -> None:
    assert plan_of(run(f"{group}={option}", *NEEDS.get((group, option), []))).segments
    text = (CONFIGS / group / f"{option}.yaml").read_text()
    assert text.startswith("#"), "the first line says what it is"
    assert group == "model" or len(text.splitlines()) <= 20  # test_zoo.py has the models' limits


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_says_what_is_meant(group: str, option: str) -> None:
    """No warnings but the known ones. Whether a model suits the default data is no matter of the model's."""
    composed = compose([f"{group}={option}", *NEEDS.get((group, option), [])])
    found = warnings(composed, validate(composed, match_data=False))
    assert {w.rule for w in found} - {"class-count"} == set(KEEPS.get((group, option), {})), "\n".join(map(str, found))


def test_the_shapes_that_comments_and_courses_promise() -> None:
    assert run("model=cat_detector").model.output == (1,)
    assert run("model=edge_detector").model.output == (4, 4, 1)
    simple = run("model=simple_convnet").model.table
    assert [row.output for row in simple] == [(37, 37, 10), (17, 17, 20), (7, 7, 40), (1960,), (10,)]
    assert simple[0].param_count == 280


def test_experiments_suit_their_data() -> None:
    for name in ("lenet_digits", "lenet_mnist"):
        spec = validate(compose([f"experiment={name}"]))
        assert (spec.model.name, spec.data.type) == ("lenet", name.removeprefix("lenet_"))
    assert validate(compose(["experiment=lenet_mnist"])).trainer.epochs == 5


@pytest.mark.parametrize("name", [option for group, option in OPTIONS if group == "experiment"])
def test_an_experiment_trains_two_steps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = validate(compose([f"experiment={name}", "trainer.max_steps=2", "tracking=none", f"run.dir={tmp_path}"]))
    needed = getattr(spec.data, "path", spec.data.type).partition("/")[0]
    if needed not in ("digits", "edges", "synthetic"):
        beside = CONFIGS.parents[1] / "shared" / "data"
        folder = Path(os.environ.get("CNNFORGE_DATA", beside)).absolute()
        if not (folder / needed).is_dir():
            pytest.skip(f"{needed} is not here: CNNFORGE_DATA names no folder with it")
        monkeypatch.setenv("CNNFORGE_DATA", str(folder))
    _, result = train(spec, PlainConsole(io.StringIO()))
    assert (result["status"], result["steps"]) == ("finished", 2)
    assert 0 <= result["test_accuracy"] <= 1 if result.keys() & {"test_accuracy"} else result["test_loss"] >= 0


def test_the_default_trainer_is_the_schemas() -> None:
    assert run("trainer=default").trainer == TrainerSpec()


def test_optimizers_are_what_their_names_say() -> None:
    momentum, nesterov = run("optimizer=momentum").optimizer, run("optimizer=nesterov").optimizer
    assert momentum.model_dump()["momentum"] == 0.9
    assert nesterov.model_dump()["nesterov"] is True
    lamb, muon = run("optimizer=lamb").optimizer, run("optimizer=muon").optimizer
    assert (lamb.type, muon.type) == ("lamb", "muon")
    assert muon.model_dump()["adamw"]["lr"] < muon.lr, "what is orthogonal needs longer steps"
