"""What a run and a saved model look like on disk: safetensors and JSON, no pickle anywhere.

A saved model is a folder::

    model.json           format, spec, precision, preprocessing, names of the classes, and a digest of the tensors
    model.safetensors    parameters and running state by name

A checkpoint is a saved model plus::

    optimizer.safetensors   optimizer slots by parameter, e.g. ``conv1.w/mean``
    state.json              counters and running sums

Everything is written under a temporary name, synced and renamed, so a folder that has its final name is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import CheckpointError
from cnnforge.executable import Executable, Weights
from cnnforge.schedules import Course
from cnnforge.spec import ModelSpec
from cnnforge.spec.early_stop import Patience
from cnnforge.tracking.journal import is_written, journal_path
from cnnforge.train.averages import Averages
from cnnforge.train.metrics import Sums
from cnnforge.train.recipe import Progress

FORMAT = 1
Tensors = Mapping[str, NDArray[Any]]
#: What the weights that are trained are called beside the slots, where the model is saved with averages.
TRAINED = "trained"
#: What of ``Progress`` has parts of its own.
_PARTS: Mapping[str, Any] = {"sums": Sums, "course": Course, "patience": Patience}


@dataclass(frozen=True)
class About:
    """What a saved model says of itself beside its tensors.

    preprocessing: how raw pictures become network input, where that is known
    classes: their names in the order of their numbers, where they have names
    """

    spec: ModelSpec
    precision: str
    preprocessing: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()


def save_model(folder: Path, about: About, weights: Weights) -> None:
    """Write a saved model."""
    _write_folder(folder, _model_files(about, weights))


def _model_files(what: About, weights: Weights) -> dict[str, bytes]:
    tensors = _fetch(weights, weights.params | weights.state)
    blob = _pack(tensors)
    about = {
        "format": FORMAT,
        "spec": what.spec.model_dump(mode="json", exclude_none=True),
        "precision": what.precision,
        "preprocessing": what.preprocessing,
        "classes": list(what.classes),
        "tensors": sha256(blob).hexdigest(),
    }
    return {"model.safetensors": blob, "model.json": _json(about)}


def saved_in(path: Path) -> Path:
    """The saved model that ``path`` holds: itself, else a run's best checkpoint, else its last, else ``model/``.

    That is the best again, written when the run has ended: it stays where somebody has removed the checkpoints.
    """
    for folder in (path, path / "checkpoints" / "best", path / "checkpoints" / "last", path / "model"):
        if (folder / "model.json").is_file():
            return folder
    why = "there is neither a model.json nor a checkpoint"
    fix = "cnnforge runs list says which runs there are; or a folder that Model.save wrote"
    if journal_path(path).is_file():
        running = is_written(path)
        why = f"the run {'has not come to' if running else 'ended before'} its first checkpoint"
        fix = "wait for it" if running else f"cnnforge resume {os.path.relpath(path)} goes on with it"
    raise CheckpointError(f"no saved model in {path}", where=str(path), why=why, fix=fix)


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(model.json, tensors). Raises CheckpointError where either is missing or damaged."""
    about = _read_json(folder / "model.json")
    return about, _read_tensors(folder / "model.safetensors", str(about["tensors"]))


def restore(weights: Weights, tensors: Tensors, where: Path) -> None:
    """Copy tensors by name into ``weights``. Raises CheckpointError unless names and shapes are the same."""
    _restore_into(weights, weights.params | weights.state, tensors, where)


class Checkpoints:
    """The ``checkpoints/`` folder of a run: ``step-N`` folders and the links ``last`` and ``best``.

    keep: how many of the newest stay; ``best`` always does
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(
        self, progress: Progress, train: Executable, about: About, best: bool, averages: Averages | None = None
    ) -> Path:
        """Write ``step-N`` for the present state; move ``last`` to it, and ``best`` where it is. Returns its folder.

        averages: the model is saved with these, and the weights that are trained beside the optimizer's slots
        """
        kept = {**train.slots, **train.scaling}
        shown = train.weights
        if averages is not None:
            averages.refresh()
            shown = averages.weights
            kept |= {f"{name}/{TRAINED}": array for name, array in averages.trained.items()}
        slots = _pack(_fetch(train.weights, kept))
        state = asdict(progress) | {"format": FORMAT, "optimizer": sha256(slots).hexdigest()}
        files = _model_files(about, shown)
        files |= {"optimizer.safetensors": slots, "state.json": _json(state)}
        folder = self.folder / f"step-{progress.step}"
        _write_folder(folder, files)
        _link(self.folder / "last", folder.name)
        if best:
            _link(self.folder / "best", folder.name)
        self._drop_old()
        return folder

    def mend(self) -> None:
        """Put right what a kill left half done. Nobody else may be writing here."""
        for left in self.folder.glob(".step-*.old"):
            whole = self.folder / left.name.split(".")[1]
            if whole.exists():
                shutil.rmtree(left)
            else:
                left.rename(whole)
        for left in self.folder.glob(".*.tmp"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        if self.has("last"):
            best = _read_json(self.folder / "last" / "state.json").get("best_step")
            if best is not None and (self.folder / f"step-{best}").is_dir():
                _link(self.folder / "best", f"step-{best}")

    def load(self, name: str, train: Executable) -> Progress:
        """Restore weights and optimizer from ``last``, ``best`` or ``step-N``; return the counters."""
        folder = self.folder / name
        _, tensors = read_model(folder)
        restore(train.weights, tensors, folder)
        state = _read_json(folder / "state.json")
        slots = _read_tensors(folder / "optimizer.safetensors", str(state.pop("optimizer")))
        ending = f"/{TRAINED}"
        trained = {name.removesuffix(ending): slots.pop(name) for name in [*slots] if name.endswith(ending)}
        _restore_into(train.weights, {**train.slots, **train.scaling}, slots, folder)
        if trained:
            own = train.weights.params | (train.weights.state if train.weights.state.keys() & trained.keys() else {})
            _restore_into(train.weights, own, trained, folder)
        del state["format"]
        parts = {name: kind(**state[name]) for name, kind in _PARTS.items() if name in state}
        return Progress(**(state | parts))

    def load_weights(self, name: str, weights: Weights) -> None:
        """Restore the model alone."""
        _, tensors = read_model(self.folder / name)
        restore(weights, tensors, self.folder / name)

    def has(self, name: str) -> bool:
        """Is there such a checkpoint?"""
        return (self.folder / name / "model.json").is_file()

    def _drop_old(self) -> None:
        kept = {os.readlink(link) for link in (self.folder / "last", self.folder / "best") if link.is_symlink()}
        steps = sorted(self.folder.glob("step-*"), key=lambda f: int(f.name.removeprefix("step-")), reverse=True)
        kept |= {f.name for f in steps[: self.keep]}
        for folder in steps:
            if folder.name not in kept:
                shutil.rmtree(folder)


#: What to do where weights are another model's.
_FIX_FOREIGN = "the model that it was saved with: config.yaml of its run, or spec in its model.json"


def _fetch(weights: Weights, arrays: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    # safetensors 0.8.0 silently scrambles arrays that are not C-contiguous.
    return {name: np.ascontiguousarray(weights.backend.get(array)) for name, array in arrays.items()}


def _restore_into(weights: Weights, arrays: Mapping[str, Any], tensors: Tensors, where: Path) -> None:
    missing, extra = sorted(arrays.keys() - tensors.keys()), sorted(tensors.keys() - arrays.keys())
    if missing or extra:
        parts = [f"it lacks {', '.join(missing)}"] if missing else []
        parts += [f"the model has no {', '.join(extra)}"] if extra else []
        raise CheckpointError(
            "the checkpoint belongs to another model",
            where=str(where),
            why="; ".join(parts),
            fix=_FIX_FOREIGN,
        )
    for name, array in arrays.items():
        if tensors[name].shape != tuple(array.shape):
            raise CheckpointError(
                f"the checkpoint belongs to another model: {name} differs",
                where=str(where),
                why=f"{name} is {tensors[name].shape} in the file and {tuple(array.shape)} in the model",
                fix=_FIX_FOREIGN,
            )
    for name, array in arrays.items():
        weights.backend.put(tensors[name], array)


def _pack(tensors: Tensors) -> bytes:
    from safetensors.numpy import save

    return save(dict(tensors))


def _read_tensors(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    try:
        blob = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if sha256(blob).hexdigest() != digest:
        raise CheckpointError(
            f"{path.name} is damaged",
            where=str(path),
            why="its SHA-256 is not the one that was written down when it was saved",
            fix=_instead_of(path.parent),
        )
    return load(blob)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise CheckpointError(
            f"{path.name} is not in a format that this version reads",
            where=str(path),
            why=f"format {found}, expected {FORMAT}",
            fix="the version of cnnforge that wrote it",
        )
    return about


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return CheckpointError(f"cannot read {path.name}", where=str(path), why=why, fix=_instead_of(path.parent))


def _instead_of(damaged: Path) -> str:
    """What to do about a checkpoint that cannot be used: go on from the newest other one of its run."""
    checkpoints, damaged = damaged.parent, damaged.resolve()
    if not damaged.name.startswith("step-"):
        return "a copy of it; of a run's model, another checkpoint"
    run = os.path.relpath(checkpoints.parent)
    others = [f for f in checkpoints.glob("step-*") if f.resolve() != damaged and (f / "model.json").is_file()]
    if not others:
        return f"a copy of it; no other checkpoint is there: cnnforge train {run}/config.yaml begins anew"
    newest = max(others, key=lambda f: int(f.name.removeprefix("step-"))).name
    return f"go on from another: ln -sfn {newest} {run}/checkpoints/last && cnnforge resume {run}"


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files or none. Raises CheckpointError where they cannot be written; what was there is then untouched."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, content in files.items():
            with open(temporary / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            temporary.rename(folder)
            shutil.rmtree(old)
        else:
            temporary.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write {folder.name}: {error.strerror or error}",
            where=str(folder),
            why="earlier checkpoints are untouched",
            fix="make room or give permission there, then cnnforge resume",
        ) from None


def _link(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    _sync(link.parent)


def _sync(folder: Path) -> None:
    """Make renames in a folder last, where the platform can open folders."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
