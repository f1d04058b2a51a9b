"""Overrides: what they do, and the exact words where they cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnforge.config import compose


@pytest.mark.parametrize(
    ("overrides", "path", "value"),
    [
        (["optimizer.lr=0.5"], "optimizer.lr", 0.5),
        (["optimizer.weight_decay=0.1"], "optimizer.weight_decay", 0.1),  # the file leaves it at its default
        (["model.layers.conv1.stride=[2,1]"], "model.layers.conv1.stride", [2, 1]),
        (["model.input.0=64"], "model.input", [64, 32, 3]),
        (["model.layers.conv1={filters: 8, stride: 2}"], "model.layers.conv1.filters", 8),
        (["model.layers.conv1={filters: 8}"], "model.layers.conv1.kernel", 5),
        (["++model.layers.conv1.filters=9"], "model.layers.conv1.filters", 9),
        (["optimizer=sgd"], "optimizer", {"type": "sgd", "lr": 0.01}),
        (["optimizer=momentum", "optimizer.momentum=0.5"], "optimizer.momentum", 0.5),
        (["optimizer.momentum=0.5", "optimizer=momentum"], "optimizer.momentum", 0.5),
        (["run.name=${model.name}-1"], "run.name", "lenet-1"),
        (["model.layers.fc3.units=int(8.0)"], "model.layers.fc3.units", 8),
        (["run.name='1e-3'"], "run.name", "1e-3"),
        (["model.loss=mse"], "model.loss", "mse"),
        (["seed=1", "seed=2"], "seed", 2),
    ],
)
def test_changes(overrides: list[str], path: str, value: object) -> None:
    composed = compose(overrides)
    node = composed.tree
    for key in path.split("."):
        node = node[key]
    assert node == value
    assert composed.errors == ()


def test_adding_and_removing_layers() -> None:
    tree = compose(["+model.layers.drop1={type: dropout, rate: 0.5, after: fc4}", "~model.layers.pool2"]).tree
    assert list(tree["model"]["layers"]) == ["conv1", "pool1", "conv2", "fc3", "fc4", "output", "drop1"]
    assert "optimizer" not in compose(["~optimizer"]).tree
    assert "epochs" not in compose(["~trainer.epochs"]).tree["trainer"]


def test_marks_of_overrides() -> None:
    composed = compose(["optimizer.lr=0.5", "+model.layers.x={type: dropout}", "~model.layers.pool1"])
    assert composed.where(("optimizer", "lr")) == "<override 'optimizer.lr=0.5'> (optimizer.lr)"
    assert composed.where(("optimizer", "type")) == "configs/optimizer/adam.yaml:3:1 (optimizer.type)"
    x = "<override '+model.layers.x={type: dropout}'>"
    assert composed.where(("model", "layers", "x", "type")) == f"{x} (model.layers.x.type)"
    assert composed.where(("model", "layers", "pool1")).startswith("configs/model/lenet.yaml:5:1 ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model=lenett",
            "model: there is no 'lenett'\n  where: <override 'model=lenett'> (model)\n"
            "  why:   model has 35 configs; most like it are lenet, lenet5, lenet4, lenet1, alexnet, googlenet\n"
            "  fix:   did you mean 'lenet'?",
        ),
        (
            "schedule=xyz",
            "schedule: there is no 'xyz'\n  where: <override 'schedule=xyz'> (schedule)\n"
            "  why:   the configs of schedule are constant, cosine, exponential, linear, multi_step, one_cycle, "
            "plateau, polynomial, step\n"
            "  fix:   one of them, or write schedule/xyz.yaml into your --config-dir",
        ),
        (
            "model=../secrets",
            "model: '../secrets' is not a name\n  where: <override 'model=../secrets'> (model)\n"
            "  why:   a config's name is letters, digits, _ and -, and never a path\n"
            "  fix:   one of its 35 configs; --config-dir DIR adds your "
            "own folder",
        ),
        (
            "trainer=5",
            "trainer: 5 is not the name of a config\n  where: <override 'trainer=5'> (trainer)\n"
            "  why:   trainer is a group of configs\n  fix:   one of default, quick",
        ),
        (
            "models/vision=lenet",
            "there is no group 'models/vision'\n  where: <override 'models/vision=lenet'>\n"
            "  why:   the groups are augment, data, experiment, model, optimizer, schedule, sweep, tracking, trainer\n"
            "  fix:   a value is changed with a dot: group.key=…",
        ),
        (
            "hydra.run.dir=x",
            "Hydra's own settings are not part of the language\n  where: <override 'hydra.run.dir=x'>\n"
            "  why:   cnnforge uses Hydra to compose configs and for nothing else\n"
            "  fix:   remove it; run.dir says where runs go",
        ),
        (
            "hydra/launcher=x",
            "Hydra's own settings are not part of the language\n  where: <override 'hydra/launcher=x'>\n"
            "  why:   cnnforge uses Hydra to compose configs and for nothing else\n"
            "  fix:   remove it; run.dir says where runs go",
        ),
        (
            "optimizer.lr=0.1,0.2",
            "'optimizer.lr=0.1,0.2' cannot be read\n  where: <override 'optimizer.lr=0.1,0.2'>\n"
            "  why:   optimizer.lr has several values: that is a sweep, and this command takes one config\n"
            "  fix:   cnnforge train -m for a run of each; as one value, a list, in brackets: optimizer.lr=[0.1,0.2]",
        ),
        (
            "seed=range(1,4)",
            "'seed=range(1,4)' cannot be read\n  where: <override 'seed=range(1,4)'>\n"
            "  why:   seed has several values: that is a sweep, and this command takes one config\n"
            "  fix:   cnnforge train -m for a run of each",
        ),
        (
            "model@other=lenet",
            "'model@other=lenet' cannot be read\n  where: <override 'model@other=lenet'>\n"
            "  why:   '@other' is not part of the language: every group has one place in the config\n"
            "  fix:   model=lenet",
        ),
        (
            "model.input[0]=3",
            "'model.input[0]=3' cannot be read\n  where: <override 'model.input[0]=3'>\n  why:   model.input[0]=3\n"
            "  fix:   an element of a list is named by its number: model.input.0=3",
        ),
        (
            "seed =3",
            "'seed =3' cannot be read\n  where: <override 'seed =3'>\n  why:   seed =3\n"
            "  fix:   no spaces around '=': seed=3",
        ),
        (
            "run.name=a=b",
            "'run.name=a=b' cannot be read\n  where: <override 'run.name=a=b'>\n"
            "  why:   mismatched input '=' expecting <EOF>\n  fix:   quote the value: run.name=\"'a=b'\"",
        ),
        (
            "lenet5",
            "'lenet5' is not an override\n  where: <override 'lenet5'>\n"
            "  why:   an override is 'key=value', '+key=value' or '~key'\n"
            "  fix:   lenet5=…, or cnnforge --help for the commands",
        ),
        (
            "run.name=${oc.env:HOME}",
            "'${oc.env:HOME}' is not allowed\n  where: <override 'run.name=${oc.env:HOME}'>\n"
            "  why:   only plain references such as ${model.name} are part of the language; resolvers could read the "
            "machine\n"
            "  fix:   write the value out, or refer to another key by its path from the root",
        ),
        (
            "model={_target_: os.system}",
            "'_target_' is not allowed\n  where: <override 'model={_target_: os.system}'>\n"
            "  why:   configs never name Python objects\n  fix:   say it with 'type:'",
        ),
        (
            "seed=12345678901234567890123",
            "a number of too many digits\n  where: <override 'seed=12345678901234567890123'>\n"
            "  why:   18 are enough for any size or seed\n  fix:   a smaller number",
        ),
        (
            "seed=" + "[" * 40 + "]" * 40,
            "the override is too long or too deep\n  where: <override 'seed=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…'>\n"
            "  why:   85 characters, 40 brackets deep; at most 10,000 and 32 are read\n"
            "  fix:   write it into a YAML file",
        ),
        (
            "model.layers.conv9.kernel=3",
            "there is no 'conv9' in model.layers\n"
            "  where: <override 'model.layers.conv9.kernel=3'> (model.layers.conv9.kernel)\n"
            "  why:   model.layers holds conv1, pool1, conv2, pool2, fc3, fc4, output\n  fix:   did you mean 'conv2'?",
        ),
        (
            "model.layers.dropout={type: dropout}",
            "there is no 'dropout' in model.layers\n"
            "  where: <override 'model.layers.dropout={type: dropout}'> (model.layers.dropout)\n"
            "  why:   model.layers holds conv1, pool1, conv2, pool2, fc3, fc4, output\n"
            "  fix:   to add it: '+model.layers.dropout={type: …, after: …}'",
        ),
        (
            "+model.layers.conv1={type: conv}",
            "model.layers.conv1 is already there\n"
            "  where: <override '+model.layers.conv1={type: conv}'> (model.layers.conv1)\n"
            "  why:   '+' adds what is new\n  fix:   model.layers.conv1={type: conv}",
        ),
        (
            "~model.layers.pool9",
            "model.layers.pool9 cannot be removed\n  where: <override '~model.layers.pool9'> (model.layers.pool9)\n"
            "  why:   there is no 'pool9' in model.layers\n  fix:   did you mean 'pool2'?",
        ),
        (
            "~seed=4",
            "seed cannot be removed\n  where: <override '~seed=4'> (seed)\n  why:   its value is 0, not 4\n"
            "  fix:   ~seed",
        ),
        (
            "model.input.7=3",
            "model.input[7] does not exist\n  where: <override 'model.input.7=3'> (model.input[7])\n"
            "  why:   model.input is a list of 3, counted from 0\n  fix:   model.input=[…] replaces it",
        ),
        (
            "seed.deeper=3",
            "seed.deeper does not exist\n  where: <override 'seed.deeper=3'> (seed.deeper)\n  why:   seed is 0\n"
            "  fix:   check the key",
        ),
        (
            "+model=lenet5",
            "the config cannot be composed\n  where: <override '+model=lenet5'>\n"
            "  why:   Multiple values for model. To override a value use 'override model: lenet5'\n"
            "  fix:   model=lenet5 changes the option that is there",
        ),
    ],
)
def test_cannot(override: str, message: str, mistakes: Callable[..., list[str]]) -> None:
    assert mistakes(override) == [message]


def test_several_at_once(mistakes: Callable[..., list[str]]) -> None:
    found = mistakes("seed=1,2", "~model.layers.x", "optimizer.lr=-1", "trainer.epoch=3")
    assert sorted(text.splitlines()[0] for text in found) == [
        "'seed=1,2' cannot be read",
        "model.layers.x cannot be removed",
        "optimizer: lr cannot be -1",
        "trainer: unknown key 'epoch'",
    ]
