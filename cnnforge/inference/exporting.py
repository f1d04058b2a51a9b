"""A trained run in another format, and the proof that it gives the same numbers there."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import CheckpointError, CnnforgeError, ConfigError
from cnnforge.export import verify
from cnnforge.export.onnx import OLDEST_OPSET, Layout, Source, as_given, to_onnx
from cnnforge.export.safetensors import to_safetensors
from cnnforge.model import Model

Format = Literal["onnx", "safetensors"]
#: The largest difference that is still the same network, for outputs up to 1; larger ones may differ by as much more.
TOLERANCE = 1e-4
#: Pictures that are compared: as many as have this many numbers together, between these bounds.
_NUMBERS, _FEWEST, _MOST = 1 << 21, 2, 64


@dataclass(frozen=True)
class Exported:
    """What was written.

    size: bytes;  differences: the largest absolute difference to onnxruntime, by what was put in
    notes: what was not compared, and why
    """

    path: Path
    size: int
    differences: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def export(
    model: Model,
    to: Format,
    path: Path,
    run: Path | None = None,
    opset: int = OLDEST_OPSET,
    layout: Layout = "nchw",
    raw: bool = False,
) -> Exported:
    """Write ``path``; an ONNX file only after onnxruntime, where it is installed, gave what ``Model.predict`` gives.

    run: the folder whose own pictures are compared as well, beside random ones

    Raises ConfigError for what cannot be written, CheckpointError where the numbers differ.
    """
    arrays = {**model.params, **model.state}
    if to == "safetensors":
        content = to_safetensors(model.spec, arrays, model.preprocessing, model.classes)
        return Exported(path, write(path, content))
    source = Source(model.spec, arrays, model.preprocessing, model.classes)
    content = to_onnx(source, opset, layout, raw)
    differences: dict[str, float] = {}
    notes: list[str] = []
    if verify.available():
        for what, x in _pictures(model, run, raw, notes).items():
            given, expected = _both(model, x, raw)
            expected = as_given(expected, layout)
            difference = verify.difference(content, as_given(given, layout), expected)
            differences[what] = difference
            if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
                raise differs(path, what, difference)
    else:
        notes.append("not compared: onnxruntime is not installed (pip install 'cnnforge[onnx]')")
    return Exported(path, write(path, content), differences, tuple(notes))


def differs(path: Path, what: str, difference: float) -> CheckpointError:
    """Two programs that should give the same numbers do not."""
    return CheckpointError(
        f"{path.name}: onnxruntime gives other numbers",
        where=str(path),
        why=f"they differ by up to {difference:.3g} on {what}; {TOLERANCE:g} is the most that rounding explains",
        fix="nothing was written; please report it as a bug, with the model's config",
    )


def _pictures(model: Model, run: Path | None, raw: bool, notes: list[str]) -> dict[str, NDArray[Any]]:
    """By what they are: network input, or with ``raw`` pictures as a split keeps them."""
    shape: tuple[int, ...] = model.spec.input
    n = min(_MOST, max(_FEWEST, _NUMBERS // prod(shape)))
    rng = np.random.default_rng(0)
    how = model.preprocessing
    if raw and how is not None:
        noise = rng.integers(0, 256, (n, *how.kept)).astype(np.uint8 if how.pixels == "uint8" else np.float32)
    else:
        noise = rng.standard_normal((n, *shape), dtype=np.float32)
    found = {f"{n} random inputs": noise}
    if run is not None and how is not None:
        try:
            real = _own(run, n)
            found[f"{len(real)} pictures of the run's data"] = real if raw else how.normalize(real)
        except CnnforgeError as error:
            notes.append(f"not compared on pictures of the run's data: {error.what}")
    return found


def _own(run: Path, n: int) -> NDArray[Any]:
    """The first pictures of a run's test, or where it has none, of its training samples, as a split keeps them."""
    from cnnforge.config import read_run, validate
    from cnnforge.data import load

    spec = validate(read_run(run / "config.yaml"))
    data = load(spec.data, spec.model.input, spec.seed)
    return (data.test if len(data.test) else data.train).x[:n]


def _both(model: Model, x: NDArray[Any], raw: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """(what the file is given, what it shall give)"""
    if raw and model.preprocessing is not None:
        return x, model.predict(model.preprocessing.normalize(x))
    return x, model.predict(x)


def write(path: Path, content: bytes) -> int:
    """Write a file whole or not at all; return its size. Raises ConfigError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"cannot write {path}", where=str(path), why=error.strerror or str(error), fix="a place to write to"
        ) from None
    return len(content)
