"""A network from an ONNX file: its YAML, its weights, and the proof that it gives the same numbers here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnnforge.config import read_model, validate_model
from cnnforge.data import Preprocessing
from cnnforge.errors import CheckpointError, ConfigError, ConfigErrors
from cnnforge.export import verify
from cnnforge.export.onnx import CLASSES, NORMALISED, PREPROCESSING, TAKES, Layout, as_given
from cnnforge.export.onnx_import import Imported, from_onnx
from cnnforge.export.onnx_import.text import yaml_text
from cnnforge.inference.exporting import TOLERANCE, differs, write
from cnnforge.model import Model
from cnnforge.names import NAME_PATTERN

_FEW = 4
_T = TypeVar("_T")


@dataclass(frozen=True)
class Brought:
    """What was written.

    config: the YAML file, ``DIR/model/NAME.yaml``;  weights: the saved model, ``DIR/weights/NAME``
    difference: the largest to onnxruntime on random inputs; None where it is not installed
    """

    name: str
    config: Path
    weights: Path
    model: Model
    difference: float | None
    notes: tuple[str, ...]


def bring_in(
    file: Path, out: Path, name: str | None = None, size: tuple[int, int] | None = None, output: str | None = None
) -> Brought:
    """Read an ONNX file, compare, and write config and weights under ``out``.

    size: (height, width) where the file leaves them open;  output: which, where it has several

    Raises CheckpointError for what cannot be read or gives other numbers, ConfigError where it cannot be written.
    """
    name = _named(name, file)
    config, weights = out / "model" / f"{name}.yaml", out / "weights" / name
    for there in (config, weights):
        if there.exists():
            raise ConfigError(
                f"{there} is there already", where="--out", why="nothing is overwritten", fix=f"--name {name}2"
            )
    imported = from_onnx(file, size, output)
    text = yaml_text(name, file.name, imported.input, imported.layers)
    model = build(text, imported)
    difference = _difference(model, imported, file)
    write(config, text.encode())
    model.save(weights)
    notes = [] if difference is not None else [
        "not compared: onnxruntime is not installed (pip install 'cnnforge[onnx]')"
    ]  # fmt: skip
    if model.spec.last_activation == "none":
        notes.append(
            "it ends without softmax or sigmoid: to train it on classes, give its last layer activation: softmax"
        )
    return Brought(name, config, weights, model, difference, tuple(notes))


def build(text: str, imported: Imported) -> Model:
    """The model of the YAML text, with the weights of the file and what it says of itself."""
    try:
        spec = validate_model(read_model(text))
        _ = spec.table
    except ConfigErrors as errors:
        raise ConfigErrors([_as_ours(error) for error in errors.errors if isinstance(error, ConfigError)]) from None
    model = Model(spec, backend="numpy")
    for name, array in imported.arrays.items():
        (model.params if name in model.params else model.state)[name] = array
    about = imported.about
    if TAKES in about and about[TAKES] == NORMALISED and (how := _said(about, PREPROCESSING, dict)) is not None:
        model.preprocessing = Preprocessing.from_dict(how)
    if (classes := _said(about, CLASSES, list)) is not None:
        model.classes = tuple(map(str, classes))
    return model


def _said(about: Mapping[str, str], key: str, kind: type[_T]) -> _T | None:
    """What the file says of itself under ``key``. Raises CheckpointError where it is nothing that cnnforge wrote."""
    if key not in about:
        return None
    try:
        value = json.loads(about[key])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise CheckpointError(
            f"what the file says under {key} is damaged",
            where=f"metadata_props, {key}",
            why=f"it is no JSON {'list' if kind is list else 'object'}",
            fix="export the run anew",
        )
    return value


def _as_ours(error: ConfigError) -> ConfigError:
    what = f"the imported network does not check: {error.what}"
    return ConfigError(what, why=error.why, fix="please report it as a bug")


def _difference(model: Model, imported: Imported, file: Path) -> float | None:
    """The largest to onnxruntime. Raises CheckpointError where it is more than rounding explains."""
    if not verify.available():
        return None
    shape = model.spec.input
    n = imported.batch or _FEW
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 256, (n, *shape)).astype(np.float32) if imported.pixels
         else rng.standard_normal((n, *shape), dtype=np.float32))  # fmt: skip
    layout: Layout = "nhwc" if imported.channels_last else "nchw"
    expected = model.predict(x)
    given = as_given(x.astype(np.uint8) if imported.pixels else x, layout)
    got = verify.run(imported.content, given, imported.output)
    if got.shape != expected.shape and got.size == expected.size:
        # A picture of one position may be a vector there; a picture has its channels first.
        expected = as_given(expected, "nchw") if got.ndim == 4 else expected
    difference = (
        float(np.abs(got - expected.reshape(got.shape)).max(initial=0.0)) if got.size == expected.size else float("inf")
    )
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise differs(file, f"{n} random inputs of {prod(shape)} numbers", difference)
    return difference


def _named(name: str | None, file: Path) -> str:
    if name is None:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", file.stem).strip("_-")
        return name if re.match(r"[A-Za-z_]", name) else f"net_{name}".rstrip("_")
    if not re.match(NAME_PATTERN, name):
        raise ConfigError(
            f"'{name}' cannot be a name", where="--name", why="letters, digits, _ and -, no digit first",
            fix="--name " + (re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-0123456789") or "net"),
        )  # fmt: skip
    return name
