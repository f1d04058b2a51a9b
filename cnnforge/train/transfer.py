"""First weights from another net: found, read, matched by name, and a report of what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnforge.errors import CheckpointError, ConfigError, suggest
from cnnforge.executable import Weights
from cnnforge.rng import stream
from cnnforge.spec import Row, RunSpec
from cnnforge.spec.init_from import InitFrom
from cnnforge.tracking.finding import find_run
from cnnforge.train.checkpoint import read_model, saved_in
from cnnforge.train.torchvision import from_torchvision

#: What PyTorch writes with pickle, which runs whatever code the file holds.
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
#: Names that one line of the report shows.
_SHOWN = 5


@dataclass(frozen=True)
class Transfer:
    """What was taken over: names, and the SHA-256 of the file it came from."""

    source: str
    digest: str
    taken: tuple[str, ...]
    notes: tuple[str, ...]


def settle(spec: RunSpec) -> RunSpec:
    """``spec`` with the place that ``init_from`` means now: ``latest`` is another run once this one has begun.

    Raises ConfigError or CheckpointError where there is nothing to start from.
    """
    if spec.init_from is None:
        return spec
    source = _place(spec.init_from.source, Path(spec.run.dir))
    return spec.model_copy(update={"init_from": spec.init_from.model_copy(update={"source": str(source)})})


def transfer(spec: RunSpec, weights: Weights) -> Transfer | None:
    """Copy into ``weights`` what ``spec.init_from`` names; None where it names nothing.

    Raises CheckpointError where the source cannot be read, nothing in it fits, or, strictly, something does not.
    """
    init = spec.init_from
    if init is None:
        return None
    path, tensors, digest = _source(spec, init)
    arrays = weights.params | weights.state
    wanted = _wanted(init, arrays)
    absent = [name for name in wanted if name not in tensors]
    shapes = {name: (tensors[name].shape, tuple(arrays[name].shape)) for name in wanted if name in tensors}
    other = [f"{name} is {there} there, {here} here" for name, (there, here) in shapes.items() if there != here]
    taken = [name for name, (there, here) in shapes.items() if there == here]
    unused = sorted(name for name in tensors if name not in wanted)
    notes = [f"init_from: {len(taken)} of {len(arrays)} tensors from {path}"]
    notes += [
        f"init_from: {len(names)} {what}: {_some(names)}"
        for what, names in (("in another shape", other), ("not there", absent), ("not used", unused))
        if names
    ]
    if not taken or (init.strict and (other or absent)):
        raise CheckpointError(
            "not everything can be taken over" if taken else "nothing in it fits this net",
            where=f"{path} (init_from)",
            why="; ".join(note.removeprefix("init_from: ") for note in notes[1:]),
            fix="strict: false takes what fits"
            if taken
            else "map: torchvision for a file with its names; else another source",
        )
    for name in taken:
        weights.backend.put(tensors[name].astype(arrays[name].dtype, copy=False), arrays[name])
    return Transfer(str(path), digest, tuple(taken), tuple(notes))


def first_values(spec: RunSpec, layer: Row, name: str) -> NDArray[Any]:
    """What parameter ``name`` of ``layer`` holds before training: what ``init_from`` gives, else what the seed does.

    Raises CheckpointError or ConfigError where the source of ``init_from`` cannot be read any more.
    """
    param, full = layer.params[name], f"{layer.name}.{name}"
    init = spec.init_from
    if init is not None and any(fnmatchcase(full, pattern) for pattern in init.match):
        _, tensors, _ = _source(spec, init)
        if full in tensors and tensors[full].shape == param.shape:
            return tensors[full]
    return param.init.fill(param.shape, param.fan, stream(spec.seed, "init", full))


def _source(spec: RunSpec, init: InitFrom) -> tuple[Path, Mapping[str, NDArray[Any]], str]:
    """(the place, tensors by the net's names, digest of the file)."""
    path = _place(init.source, Path(spec.run.dir))
    tensors, digest = _read(path)
    if init.map == "torchvision":
        tensors = from_torchvision(tensors, spec.model.table, path)
    return path, tensors, digest


def _wanted(init: InitFrom, arrays: Mapping[str, Any]) -> dict[str, None]:
    for pattern in init.match:
        if not any(fnmatchcase(name, pattern) for name in arrays):
            raise ConfigError(
                f"{pattern}: no tensor of the net has such a name",
                where="init_from.match",
                why=f"its names are {_some(list(arrays))}",
                fix=suggest(pattern, list(arrays)) or "a name, or a part of one and *",
            )
    return {name: None for name in arrays if any(fnmatchcase(name, pattern) for pattern in init.match)}


def _place(source: str, runs_dir: Path) -> Path:
    """The folder of a saved model, or the file, that ``source`` means."""
    path = Path(source)
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"{path.name} is read with pickle, which runs any code that is in it",
            where="init_from.source",
            why="weights come from .safetensors files alone",
            fix="where you trust it, in Python: from safetensors.torch import save_file; "
            f"save_file(torch.load('{path.name}', weights_only=True), '{path.stem}.safetensors')",
        )
    if path.is_file():
        return path.resolve()
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path}: no such file", where="init_from.source", why=f"looked in {Path.cwd()}",
            fix="init_from.source=FILE.safetensors, or a run: cnnforge runs list says which there are",
        )  # fmt: skip
    if path.is_dir() and not (path / "journal.jsonl").is_file():
        return saved_in(path).resolve()
    return saved_in(find_run(source, runs_dir)).resolve()


def _read(path: Path) -> tuple[Mapping[str, NDArray[Any]], str]:
    """Tensors by name, and the digest of their file."""
    if path.is_dir():
        about, tensors = read_model(path)
        return tensors, str(about["tensors"])
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        blob = path.read_bytes()
        return load(blob), sha256(blob).hexdigest()
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as safetensors",
            where=f"{path} (init_from)",
            why=str(error) or type(error).__name__,
            fix="a whole .safetensors file of float32, float16 or float64 tensors",
        ) from None


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
