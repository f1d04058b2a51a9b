"""Which folders belong together: a sweep, its trials, and their replicas.

A sweep is a folder with a journal of its own; ``SWEEP/trials/N`` is a trial, and where a trial is trained several times
(seeds, folds) ``SWEEP/trials/N/REPLICA`` are its runs. Run names begin with a letter, so a number is always a trial's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRIALS = "trials"
JOURNAL = "journal.jsonl"
#: What a sweep says of itself and its trials, from the first one on.
SWEEP = "sweep.json"
#: Stands in the folder of a cross-validation, which has a run for each fold in it and is none itself.
FOLDS = "folds.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """A run folder's place in its sweep. replica: empty where the trial is a single run."""

    sweep: Path
    number: int
    replica: str = ""

    @property
    def name(self) -> str:
        """What the run is called where nobody gave it a name."""
        return "-".join(part for part in (self.sweep.name, str(self.number), self.replica) if part)


def trial_of(run_dir: Path) -> Trial | None:
    """The run's place in a sweep; ``None`` for a run of its own. Looks at names alone."""
    run_dir = run_dir.resolve()
    parent, above = run_dir.parent, run_dir.parent.parent
    if parent.name == TRIALS and is_number(run_dir.name):
        return Trial(above, int(run_dir.name))
    if above.name == TRIALS and is_number(parent.name):
        return Trial(above.parent, int(parent.name), run_dir.name)
    return None


def name_of(run_dir: Path) -> str:
    """What the commands call the run: its folder's name, of a trial ``SWEEP/trials/N`` (``/REPLICA``)."""
    run_dir = run_dir.resolve()
    trial = trial_of(run_dir)
    return run_dir.name if trial is None else run_dir.relative_to(trial.sweep.parent).as_posix()


def trial_numbers(sweep_dir: Path) -> list[str]:
    """The names of the trials' folders, in the order of their numbers."""
    try:
        return sorted(filter(is_number, os.listdir(sweep_dir / TRIALS)), key=int)
    except (FileNotFoundError, NotADirectoryError):
        return []


def runs_of_trial(trial_dir: Path) -> list[Path]:
    """The run folders of one trial: itself, or its replicas; empty while none of them has a journal."""
    if (trial_dir / JOURNAL).is_file():
        return [trial_dir]
    try:
        names = sorted(os.listdir(trial_dir))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [trial_dir / name for name in names if (trial_dir / name / JOURNAL).is_file()]


def trial_runs(sweep_dir: Path) -> Iterator[Path]:
    """Every run folder of a sweep's trials; none for a run that is no sweep."""
    for name in trial_numbers(sweep_dir):
        yield from runs_of_trial(sweep_dir / TRIALS / name)


def is_number(name: str) -> bool:
    """Whether a folder below ``trials`` is named as trials are."""
    return name.isascii() and name.isdigit()
