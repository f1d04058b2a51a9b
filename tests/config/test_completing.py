"""What an override may go on with: groups, options, keys and values, the user's own among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.config import compose, validate
from cnnforge.config.completing import complete
from cnnforge.config.json_schema import json_schema
from cnnforge.config.sources import Repository, shipped
from cnnforge.errors import CnnforgeError, ConfigErrors, UnknownName
from cnnforge.spec import RunSpec

OPTIMIZER = ["optimizer.lr=", "optimizer.momentum=", "optimizer.nesterov=", "optimizer.weight_decay="]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "others", "found"),
    [
        ("mod", [], ["model.", "model="]),
        ("see", [], ["seed="]),
        ("exp", [], ["experiment="]),
        ("model=lenet", [], ["model=lenet", "model=lenet1", "model=lenet4", "model=lenet5"]),
        ("model=vgg11,resnet1", [], ["model=vgg11,resnet101", "model=vgg11,resnet18"]),
        ("model.i", [], ["model.input="]),
        ("model.layers.p", [], ["model.layers.pool1.", "model.layers.pool2."]),
        ("model.layers.o", ["model=edge_learner"], []),
        ("model.layers.e", ["model=edge_learner"], ["model.layers.edges."]),
        ("model.layers.conv1.k", [], ["model.layers.conv1.kernel="]),
        ("model.layers.pool1.k", [], ["model.layers.pool1.kernel="]),
        ("model.layers.pool1.f", [], []),
        ("model.layers.conv1.activation=relu", [], [f"model.layers.conv1.activation={f}" for f in ("relu", "relu6")]),
        ("~model.layers.p", [], [f"~model.layers.pool{end}" for end in ("1.", "2.")]),
        ("~model.layers.pool1.k", [], ["~model.layers.pool1.kernel"]),
        ("+model.la", [], ["+model.layers."]),
        ("optimizer.n", [], []),
        ("optimizer.n", ["optimizer=sgd"], ["optimizer.nesterov="]),
        ("optimizer.nesterov=", ["optimizer=sgd"], ["optimizer.nesterov=true", "optimizer.nesterov=false"]),
        ("data.pa", ["data=image_folder"], ["data.path="]),
        ("data.pa", ["data=image_folder", "optimizer.lr=0."], ["data.path="]),
        ("data.pa", ["data=nosuch"], []),
        ("trainer.backend=nu", [], ["trainer.backend=numpy", "trainer.backend=numba"]),
        ("trainer.epochs=", [], []),
        ("nothing.", [], []),
        ("nothing=", [], []),
        ("model.layers.conv1.kernel.x", [], []),
        ("model..", [], []),
        ("=", [], []),
    ],
)
def test_a_word(word, others, found):
    assert complete(word, others, None) == found


def test_the_users_own_configs_come_too(here: Path):
    (here / "configs/model").mkdir(parents=True)
    (here / "configs/model/lemon.yaml").write_text(
        "name: lemon\ninput: [8, 8, 1]\nlayers:\n  peel: {type: conv, filters: 2, kernel: 3}\n"
    )
    (here / "configs/model/.hidden.yaml").touch()
    assert complete("model=lem", [], None) == ["model=lemon"]
    assert complete("model.layers.", ["model=lemon"], None) == ["model.layers.peel."]
    (here / "other/model").mkdir(parents=True)
    (here / "other/model/lemur.yaml").touch()
    assert complete("model=lem", [], here / "other") == ["model=lemur"]


def test_a_broken_config_of_the_users_is_no_traceback(here: Path):
    (here / "configs/model").mkdir(parents=True)
    (here / "configs/model/bad.yaml").write_text("name: [")
    assert complete("model.layers.conv1.k", ["model=bad"], None) == ["model.layers.conv1.kernel="]


def test_every_group_and_section_is_offered():
    words = complete("", [], None)
    groups = Repository([shipped()]).groups()
    assert {f"{group}=" for group in groups} <= set(words)
    sections = {word.rstrip("=.") for word in words}
    assert sections == {*groups, *RunSpec.model_fields}


def test_the_schema_that_is_read_is_up_to_date():
    """Completion knows keys from the shipped file alone."""
    import json

    from cnnforge.config.completing import SCHEMA

    assert json.loads((shipped() / SCHEMA).read_text("utf-8")) == json.loads(json.dumps(json_schema("train")))


@settings(max_examples=30)
@given(st.data())
def test_what_is_offered_is_never_an_unknown_key(data: st.DataObject):
    """Follow offers down to a value: whatever is set there, no key of the way is unknown."""
    others = data.draw(st.sampled_from([[], ["model=resnet20"], ["optimizer=sgd"], ["data=npz"], ["sweep=lr_search"]]))
    word = ""
    for _ in range(6):
        offers = complete(word, others, None)
        if not offers or word.endswith("="):
            break
        word = data.draw(st.sampled_from(offers))
    if "." not in word or not word.endswith("="):  # a group, which takes an option
        return
    found: tuple[CnnforgeError, ...] = ()
    try:
        validate(compose([*others, f"{word}{{}}"]))
    except ConfigErrors as errors:
        found = errors.errors
    assert not [e for e in found if isinstance(e, UnknownName)], word
