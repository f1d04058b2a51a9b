"""The schemas that editors get say what the reader does, and the committed ones are what the command prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cnnforge.cli.main import main
from cnnforge.config import compose, read_model, read_run, validate, validate_model
from cnnforge.config.json_schema import groups, json_schema, text
from cnnforge.config.scan import scan
from cnnforge.config.sources import Repository
from cnnforge.errors import ConfigErrors

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
CHECKS = {group: Draft202012Validator(json_schema(group)) for group in groups()}


def tree(yaml: str) -> object:
    return scan(yaml.encode(), "<text>").tree


def complaints(group: str, yaml: str) -> list[str]:
    return [error.message for error in CHECKS[group].iter_errors(tree(yaml))]


def group_of(file: Path) -> str:
    return "train" if file.parent == CONFIGS else file.relative_to(CONFIGS).parts[0]


@pytest.mark.parametrize("group", groups())
def test_the_committed_schema_is_what_the_command_prints(group, capsys):
    Draft202012Validator.check_schema(json_schema(group))
    assert main(["schema", group]) == 0
    printed = capsys.readouterr().out
    committed = CONFIGS / ".schema" / f"{group}.json"
    assert committed.read_text("utf-8") == printed, "cnnforge schema --write configs"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{group_of(f)}/{f.stem}")
def test_a_shipped_config_names_its_schema_and_follows_it(file):
    lines = file.read_text("utf-8").splitlines()
    target = lines[1].removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / target).resolve() == CONFIGS / ".schema" / f"{group_of(file)}.json"
    assert complaints(group_of(file), file.read_text("utf-8")) == []


def layer(fields: str) -> str:
    return f"input: [8, 8, 1]\nlayers:\n  a: {{{fields}}}\n"


def using(fields: str) -> str:
    """A model with a template, used once."""
    return (
        "input: [8, 8, 1]\n"
        "templates:\n"
        "  twice:\n"
        "    parameters: {n: int, f: text = relu}\n"
        "    layers:\n"
        "      one: {type: conv, filters: '=n', kernel: 1, activation: '=f'}\n"
        "      two: {type: conv, filters: '=n * 2', kernel: 1}\n"
        f"layers:\n  a: {{{fields}}}\n"
    )


CONV = "type: conv, filters: 2, kernel: 3"
MODELS = {
    "a block": (layer(CONV), True),
    "a size of two": (layer("type: conv, filters: 2, kernel: [3, 2], stride: [1, 2]"), True),
    "a size of three": (layer("type: conv, filters: 2, kernel: [3, 2, 1]"), False),
    "padding by name": (layer(CONV + ", padding: same"), True),
    "padding on four sides": (layer(CONV + ", padding: [0, 1, 0, 1]"), True),
    "padding on two sides": (layer(CONV + ", padding: [0, 1]"), False),
    "padding misspelt": (layer(CONV + ", padding: sane"), False),
    "a short init": (layer(CONV + ", init: he, bias_init: {constant: 0.1}"), True),
    "a long init": (layer(CONV + ", init: {type: constant, value: 1e-3}"), True),
    "an unknown init": (layer(CONV + ", init: hee"), False),
    "an init without its value": (layer(CONV + ", init: constant"), False),
    "an unknown filter": (layer(CONV + ", init: {filter: sobel}"), False),
    "several filters": (layer(CONV + ", init: {filter: [vertical, horizontal]}"), True),
    "a key misspelt": (layer("type: conv, filter: 2, kernel: 3"), False),
    "a key of another block": (layer(CONV + ", units: 3"), False),
    "a key that is missing": (layer("type: conv, kernel: 3"), False),
    "a key that depthwise does without": (layer("type: conv, kernel: 3, groups: depthwise"), True),
    "a key that other groups need": (layer("type: conv, kernel: 3, groups: 1"), False),
    "a type misspelt": (layer("type: cov, filters: 2, kernel: 3"), False),
    "no type": (layer("filters: 2, kernel: 3"), False),
    "a reference": (layer("type: conv, filters: '${model.input.0}', kernel: 3"), True),
    "a resolver": (layer("type: conv, filters: '${oc.env:HOME}', kernel: 3"), False),
    "zero filters": (layer("type: conv, filters: 0, kernel: 3"), False),
    "text for a number": (layer("type: conv, filters: many, kernel: 3"), False),
    "a truth value in quotes": (layer(CONV + ", bias: 'true'"), False),
    "a number as text": (layer("type: dropout, rate: '5e-1'"), True),
    "a rate of 1": (layer("type: dropout, rate: 1.0"), False),
    "a layer that is no name": ("input: [8, 8, 1]\nlayers:\n  2a: {type: flatten}\n", False),
    "two sizes of input": ("input: [8, 8]\nlayers: {a: {type: flatten}}\n", False),
    "a short loss": (layer("type: fc, units: 2") + "loss: mse\n", True),
    "an unknown loss": (layer("type: fc, units: 2") + "loss: hinge\n", False),
    "a residual": (layer("type: residual, layers: {b: {type: conv, filters: 1, kernel: 3, padding: same}}"), True),
    "a mistake in a residual": (layer("type: residual, layers: {b: {type: conv, filters: 1, kernle: 3}}"), False),
    "branches": (layer("type: branches, branches: {b: {c: {type: conv, filters: 1, kernel: 1}}, d: {}}"), True),
    "a repetition": (
        layer("type: repeat, times: 2, block: {type: conv, filters: '=index', kernel: 1}, first: {bias: false}"),
        True,
    ),
    "an unknown key in a repetition": (layer("type: repeat, times: 2, block: {type: flatten, x: 1}"), False),
    "a template": (using("type: twice, n: 3"), True),
    "an expression": (layer("type: conv, filters: '=1 + 1', kernel: 1"), True),
    "an expression of the input": (layer(CONV).replace("[8, 8, 1]", "['=8', 8, 1]"), False),
    "a block beside a template": (using("type: conv, filters: 0, kernel: 1"), False),
    "a mistake in a template": (using("type: twice, n: 3").replace("kernel: 1}", "kernle: 1}"), False),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_of_a_model_agrees_with_the_reader(name):
    yaml, valid = MODELS[name]
    try:
        validate_model(read_model(yaml))
        taken = True
    except ConfigErrors:
        taken = False
    assert (taken, complaints("model", yaml) == []) == (valid, valid), complaints("model", yaml)


SECTIONS = [
    ("optimizer", "{type: adam, lr: 1e-3, betas: [0.9, 0.99]}", True),
    ("optimizer", "{type: adam, lr: '1e-3'}", True),
    ("optimizer", "{type: adam, lr: '-1e-3'}", False),
    ("optimizer", "{type: adam, lr: 0}", False),
    ("optimizer", "{type: adam, lr: fast}", False),
    ("optimizer", "{type: adam, momentum: 0.9}", False),
    ("optimizer", "{type: adam, betas: [0.9]}", False),
    ("optimizer", "{type: adma}", False),
    ("optimizer", "{lr: 0.1}", False),
    ("optimizer", "{type: sgd, nesterov: true, momentum: '${optimizer.lr}', lr: 0.1}", True),
    ("optimizer", "adam", False),
    ("schedule", "{type: cosine, floor: 0.1}", True),
    ("schedule", "{type: cosine, floor: 1}", False),
    ("data", "{type: npz, path: x.npz, classes: null}", True),
    ("data", "{type: npz}", False),
    ("data", "{type: digits, normalize: no}", False),
    ("augment", "{crop: {padding: 2, border: zero}, flip: {}}", True),
    ("augment", "{crop: null, flip: {rate: 0.2}}", True),
    ("augment", "{crop: {border: zero}}", False),
    ("augment", "{flip: true}", False),
    ("augment", "{shift: {}}", False),
    ("trainer", "{epochs: 3, threads: null}", True),
    ("trainer", "{epochs: 0}", False),
    ("trainer", "{epoch: 3}", False),
    ("trainer", "{precision: float8}", False),
    ("tracking", "{enabled: false, experiment: 'of ${model.name}'}", True),
    ("tracking", "{enabled: 1}", False),
]


@pytest.mark.parametrize(("group", "yaml", "valid"), SECTIONS)
def test_the_schema_of_a_group_agrees_with_the_reader(group, yaml, valid):
    try:
        validate(
            read_run(f"model: {{name: m, input: [8, 8, 1], layers: {{a: {{type: flatten}}}}}}\n{group}: {yaml}\n"),
            match_data=False,
        )
        taken = True
    except ConfigErrors:
        taken = False
    found = [error.message for error in CHECKS[group].iter_errors(scan(f"x: {yaml}".encode(), "").tree["x"])]
    assert (taken, found == []) == (valid, valid), found


LAID_OVER = [
    ("experiment", "optimizer: {lr: 0.1}\n", True),
    ("experiment", "optimizer: {lr: 0.1, weight: 1}\n", False),
    ("experiment", "optimizer: {type: adam, nesterov: true}\n", False),
    ("experiment", "model: {layers: {conv1: {filters: 3}, stage: {type: bottleneck, n: 3}}}\n", True),
    ("experiment", "model: {layers: {conv1: {type: conv, filtres: 3}}}\n", False),
    ("experiment", "trainer: {epochs: many}\n", False),
    ("experiment", "trainr: {epochs: 1}\n", False),
    ("experiment", "defaults:\n  - override /model: lenet\n  - _self_\nseed: 1\n", True),
    ("experiment", "defaults: lenet\n", False),
    ("experiment", "defaults:\n  - replace /model: lenet\n", False),
    ("optimizer", "defaults: [adam, _self_]\nlr: 0.1\n", True),
    ("optimizer", "defaults: [adam, _self_]\nlearning_rate: 0.1\n", False),
    ("model", "defaults: [lenet]\nlayers: {conv1: {filters: 12}}\n", True),
    ("model", "defaults: [lenet]\nlayer: {conv1: {filters: 12}}\n", False),
    ("train", "defaults:\n  - model: lenet\n  - experiment: null\nseed: -1\n", False),
    ("data", "type: npz\npath: ???\nclasses: ???\n", True),
]


@pytest.mark.parametrize(("group", "yaml", "valid"), LAID_OVER)
def test_a_config_that_is_laid_over_others_needs_nothing(group, yaml, valid):
    assert (complaints(group, yaml) == []) == valid, complaints(group, yaml)


def test_a_mistake_is_said_once_where_it_is():
    (error,) = CHECKS["model"].iter_errors(tree(layer("type: conv, filters: 2, kernel: 3, strde: 2")))
    assert (list(error.absolute_path), error.message) == (
        ["layers", "a"],
        "Additional properties are not allowed ('strde' was unexpected)",
    )


def test_what_editors_show():
    conv = json_schema("model")["$defs"]["Conv.formulas"]["properties"]
    assert conv["filters"]["description"] == "number of output channels"
    assert (conv["stride"]["default"], conv["padding"]["default"], conv["bias_init"]["default"]) == (
        1,
        "valid",
        "zeros",
    )
    kinds = json_schema("optimizer")["$defs"]["Optimizer"]["properties"]["type"]["anyOf"][0]
    assert kinds["enum"] == ["sgd", "rmsprop", "adam", "adamw", "lamb", "muon"]
    assert kinds["enumDescriptions"][3].startswith("Adam with decoupled weight decay")


def test_the_folder_of_schemas_is_no_group():
    repository = Repository([CONFIGS])
    assert ".schema" not in repository.groups()
    assert not repository.has_group(".schema")
    assert compose([]).errors == ()


def test_writing_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert main(["schema", "--write", "mine"]) == 0
    files = [Path("mine", ".schema", f"{group}.json") for group in groups()]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert files[0].read_text("utf-8") == text(json_schema("model"))
    assert main(["schema"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == groups()


def test_mistakes_in_the_command(capsys, tmp_path):
    assert main(["schema", "modle"]) == 2
    assert capsys.readouterr().err == (
        "there is no schema of 'modle'\n"
        "  where: cnnforge schema\n"
        "  why:   there are model, data, augment, optimizer, schedule, trainer, tracking, sweep, experiment, train\n"
        "  fix:   did you mean 'model'?\n"
    )
    assert main(["schema", "--write", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_it_imports_nothing_heavy():
    code = (
        "import sys; from cnnforge.cli.main import main; main(['schema', 'model'])\n"
        "print(sorted({'numpy', 'mlflow', 'hydra', 'omegaconf', 'jsonschema'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CONFIGS.parent)},
    )
    assert done.stderr == "[]\n"
