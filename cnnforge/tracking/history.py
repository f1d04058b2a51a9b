"""Runs as their folders tell: many of them quickly, without MLflow, and without reading whole journals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cnnforge.tracking.family import TRIALS, name_of, trial_numbers, trial_of
from cnnforge.tracking.finding import run_folders
from cnnforge.tracking.journal import Record, head, is_written, journal_path, tail
from cnnforge.tracking.state import mlflow_run_id

#: A metric that every epoch has, and no single step.
OF_EPOCHS = "train_loss"
#: Records that may follow a run's end without being a new life of it.
_AFTERWARDS = frozenset({"artifact", "tags", "register"})
#: Names and places of runs: no two have the same.
_PLACES = ("run.", "tracking.")
#: How a change says that a key is not there any more.
_NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Told:
    """A run as its folder tells.

    name:    what the commands call it: of a trial ``SWEEP/trials/N``
    status:  how it ended; ``running`` where a process writes it, ``killed`` where none does and it never said
    params:  its config by dotted name, as it is now; a sweep's begin with ``sweep.`` and ``space.``
    tags:    the labels it was given
    data:    name, digest, splits and more of its data; empty while they are not read
    result:  the numbers it ended with; of one that runs or was cut those of its last epoch, of a sweep its counts and
             best numbers
    started, last: of its first and its last record, ms since the epoch; 0 where it has none
    """

    folder: Path
    name: str
    kind: Literal["run", "sweep", "trial"]
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    data: Mapping[str, Any]
    result: Mapping[str, Any]
    started: int
    last: int
    mlflow_run_id: str | None

    @property
    def seconds(self) -> float:
        """How long its last life took by its result, else from its first record to its last."""
        wall = self.result.get("wall_seconds")
        return float(wall) if isinstance(wall, int | float) else max(0, self.last - self.started) / 1000


def history(runs_dir: Path, trials: bool = False) -> Iterator[Told]:
    """Every run below, each sweep as one; with ``trials`` its trials too."""
    for folder in run_folders(runs_dir):
        if trials or trial_of(folder) is None:
            yield told(folder)


def told(folder: Path) -> Told:
    """The run in ``folder``, which has a journal."""
    path, trial = journal_path(folder), trial_of(folder)
    params, tags, data, started = _beginning(path)
    status, last, latest = _end(path)
    if is_written(folder):
        status = "running"
    result = _result(folder) if status not in ("running", "killed") else {}
    sweep = (folder / TRIALS).is_dir() or "sweep.name" in params
    return Told(
        folder=folder,
        name=name_of(folder),
        kind="trial" if trial is not None else "sweep" if sweep else "run",
        status=status,
        params=params,
        tags=tags,
        data=data,
        result=latest | result,
        started=started,
        last=last or started,
        mlflow_run_id=mlflow_run_id(folder),
    )


def changes_of(folder: Path) -> dict[str, str]:
    """What of a run's config was changed on purpose in its later lives: the value by name, empty where it went."""
    found: dict[str, str] = {}
    for record in head(journal_path(folder)):
        if record["kind"] == "event" and record["name"] == "changed":
            now = record["data"].get("now")
            now = now if isinstance(now, dict) else {}
            found |= {str(key): "" if value == _NOTHING else str(value) for key, value in now.items()}
    return found


def trial_count(folder: Path) -> int:
    """Trials that a sweep's folder has."""
    return len(trial_numbers(folder))


def _beginning(path: Path) -> tuple[dict[str, str], dict[str, str], Record, int]:
    """(params, tags, data, time) of the records before the first number."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    data: Record = {}
    started = 0
    for record in head(path):
        started = started or record["time"]
        match record["kind"]:
            case "params":
                params = params or {name: str(value) for name, value in record["values"].items()}
            case "tags":
                tags |= {name: str(value) for name, value in record["values"].items()}
            case "dataset":
                data = data or record
            case "metrics" | "end":
                break
    return params, tags, data, started


def _end(path: Path) -> tuple[str, int, dict[str, Any]]:
    """(status, time, numbers) of the last records; the numbers are of the last epoch among them, or a sweep's."""
    status, last = "", 0
    for record in tail(path):
        last = last or record["time"]
        kind = record["kind"]
        if kind == "end" and not status:
            status = record["status"]
        elif kind not in _AFTERWARDS and not status:
            status = "killed"
        if kind == "metrics" and OF_EPOCHS in record["values"]:
            return status, last, {**record["values"], "epochs": record["step"]}
        if kind == "metrics" and "trials_finished" in record["values"]:
            return status, last, dict(record["values"])
    return status or "killed", last, {}


def _result(folder: Path) -> dict[str, Any]:
    """What ``result.json`` holds; nothing where it is missing or damaged: the journal is enough for a list."""
    try:
        result = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return result if isinstance(result, dict) else {}


def config_of(run: Told) -> dict[str, str]:
    """The run's config by dotted name, with what was changed on purpose in its later lives."""
    return {**run.params, **changes_of(run.folder)}


def differing(runs: list[Told]) -> dict[str, list[str]]:
    """The config values that are not the same in all runs, by name; an empty text where a run has none.

    Names and places of runs are left out: they always differ.
    """
    configs = [config_of(run) for run in runs]
    names = list(dict.fromkeys(name for config in configs for name in config))
    rows = {name: [config.get(name, "") for config in configs] for name in names if not name.startswith(_PLACES)}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}
