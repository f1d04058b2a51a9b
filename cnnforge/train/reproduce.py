"""Doing a run again from its own record, and comparing every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnforge.errors import ConfigError
from cnnforge.train.folder import new_folder, point_latest
from cnnforge.train.record import OVER, RunRecord, is_timing, read_record
from cnnforge.train.run import run
from cnnforge.train.work import Console


@dataclass(frozen=True)
class Comparison:
    """A run beside its repetition.

    metrics: (name, step) -> what was recorded, what came out again; None where one of them has no such number
    weights: are the saved models the same to the byte?
    """

    folder: Path
    again: Path
    metrics: Mapping[tuple[str, int], tuple[float | None, float | None]]
    weights: bool

    @property
    def differing(self) -> list[tuple[str, int]]:
        """The metrics that came out otherwise."""
        return [key for key, (then, now) in self.metrics.items() if then != now]

    @property
    def equal(self) -> bool:
        """Is everything the same?"""
        return self.weights and not self.differing


def reproduce(folder: Path, console: Console) -> Comparison:
    """Run what the run in ``folder`` recorded (config, data, ways of its kernels) in a new folder beside it.

    Raises ConfigError where the run did not reach its end or its config was changed on the way; else as ``run``.
    """
    record = read_record(folder)
    _refuse(record)
    spec = record.spec
    untracked = spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"enabled": False})})
    beside = new_folder(folder.parent, f"{folder.name}-again")
    point_latest(beside)
    again, _ = run(untracked, console, record.ways, beside)
    then, now = record.metrics, read_record(again).metrics
    keys = [key for key in dict.fromkeys((*then, *now)) if not is_timing(key[0])]
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (folder, again)]
    metrics = {key: (then.get(key), now.get(key)) for key in keys}
    return Comparison(folder, again, metrics, weights[0] == weights[1])


def _refuse(record: RunRecord) -> None:
    name = record.folder.name
    if record.status not in OVER:
        raise ConfigError(
            f"{name} did not reach its end",
            where=str(record.folder),
            why=f"it {'ended as ' + record.status if record.status else 'was killed'}: there is no result to compare",
            fix=f"cnnforge resume {name}",
        )
    if record.ranks > 1:
        raise ConfigError(
            f"{name} was trained by {record.ranks} processes",
            where=str(record.folder / "plan.json"),
            why="one process adds numbers up in another order, so nothing would be equal to the bit",
            fix=f"mpiexec -n {record.ranks} cnnforge train with the values of {record.folder / 'config.yaml'}",
        )
    if record.changed or record.changes:
        raise ConfigError(
            f"{name} is not what one config says",
            where=str(record.folder / "config.yaml"),
            why="its config was changed after it had begun",
            fix=f"cnnforge train with the values of {record.folder / 'config.yaml'} makes a run that can be reproduced",
        )
