"""Configs that stand by themselves, as Python gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from cnnforge.config import read_model, read_run, validate, validate_model
from cnnforge.errors import ConfigErrors

TEXT = "name: net\ninput: [8, 8, 1]\nlayers:\n  f: {type: fc, units: 2, activation: softmax}\n"
TREE = {"name": "net", "input": (8, 8, 1), "layers": {"f": {"type": "fc", "units": 2, "activation": "softmax"}}}


def message(source: Mapping[str, object] | str | Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        validate_model(read_model(source))
    return str(caught.value)


def test_four_ways_of_saying_the_same(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(TEXT)
    models = [validate_model(read_model(source)) for source in (TEXT, TREE, MappingProxyType(TREE), file, str(file))]
    assert all(model == models[0] for model in models)
    assert models[0].output == (2,)


def test_a_reference_within_a_model() -> None:
    assert validate_model(read_model(TEXT.replace("units: 2", "units: '${model.input.0}'"))).output == (8,)


def test_places_are_those_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(TEXT.replace("units: 2", "units: -2"))
    expected = "f: units cannot be -2\n  where: {}layers.f.units{}\n  why:   -2 is not above 0\n"
    expected += "  fix:   a whole number above 0"
    assert message("net.yaml") == expected.format("net.yaml:4:17 (", ")")
    assert message(TEXT.replace("units: 2", "units: -2")) == expected.format("<text>:4:17 (", ")")
    assert message({**TREE, "layers": {"f": {"type": "fc", "units": -2}}}) == expected.format("", "")


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(TEXT)
    assert message("nett.yaml") == (
        "nett.yaml: cannot be read\n  where: nett.yaml\n  why:   No such file or directory\n  fix:   there are net.yaml"
    )
    assert message("lenet").startswith("lenet: cannot be read")
    assert message(tmp_path).startswith(f"{tmp_path}: cannot be read\n  where: .\n  why:   Is a directory")
    assert message("a\0b").startswith("a\0b: cannot be read")
    assert message("defaults: [lenet]\n").startswith("'defaults' needs a command\n  where: <text>:1:1")
    assert message("_target_: os.system\n").startswith("'_target_' is not allowed\n  where: <text>:1:1 (_target_)")


def test_a_dict_with_odd_keys() -> None:
    assert message({**TREE, "layers": {1: {"type": "fc", "units": 2}}}) == (
        "1 is not a name\n  where: layers[1]\n"
        "  why:   names are letters, digits, _ and -, and do not begin with a digit or -\n  fix:   _1"
    )


def test_a_whole_run() -> None:
    assert validate(read_run({"model": TREE, "seed": 4}), match_data=False).seed == 4
    with pytest.raises(ConfigErrors) as caught:
        validate(read_run(f"seed: x\nmodel: {{{TEXT.splitlines()[0]}}}\n"))
    assert caught.value.errors[0].where == "<text>:1:1 (seed)"
