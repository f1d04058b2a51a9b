"""Folders of sweeps that were never run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ACCURACY = {"metric": "val_accuracy", "direction": "maximize"}
LOSS = {"metric": "val_loss", "direction": "minimize"}
MACS = {"metric": "macs", "direction": "minimize"}


def trial(number: int, state: str, values: Mapping[str, Any], **about: Any) -> dict[str, Any]:
    """A trial as ``sweep.json`` has it."""
    costs = {"params": 10, "macs": 1000 * number, "memory": 100}
    return {"number": number, "values": dict(values), "state": state, "runs": 1, "epochs": 5, **costs, **about}


def write_sweep(
    folder: Path,
    space: Mapping[str, Any],
    trials: Sequence[dict[str, Any]],
    *,
    objective: Sequence[Mapping[str, str]] = (ACCURACY,),
    best: Sequence[int] = (),
    planned: int | None = None,
    curves: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """A sweep's folder. curves: the first objective by epoch, of runs named by their place, ``3`` or ``3/seed-1``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "begun.json").write_text('{"overrides": [], "config_dir": null}')
    about = {
        "sweep": folder.name, "sampler": "random", "objective": list(objective), "space": space,
        "planned": len(trials) if planned is None else planned, "seconds": 75.2, "best": list(best),
        "duplicates": {}, "trials": list(trials),
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(about))
    for place, curve in (curves or {}).items():
        run = folder / "trials" / place
        run.mkdir(parents=True)
        records = [{"seq": 0, "time": 0, "kind": "run", "id": "0"}]
        for epoch, value in enumerate(curve, 1):
            step = {"step/train_loss": 1.0, "step/lr": 0.1}
            records.append({"seq": 0, "time": 0, "kind": "metrics", "step": 7 * epoch, "values": step})
            values = {"train_loss": 1.0, objective[0]["metric"]: value}
            records.append({"seq": 0, "time": 0, "kind": "metrics", "step": epoch, "values": values})
        lines = [json.dumps(record, separators=(",", ":")) for record in records]
        (run / "journal.jsonl").write_text("\n".join([*lines, '{"seq":9,"ki']))
    return folder


def mixed(folder: Path) -> Path:
    """One trial in each state, of a space with a condition."""
    space = {
        "optimizer": {"choices": ["adam", "nesterov"]},
        "optimizer.lr": {"low": 0.001, "high": 0.1, "log": True},
        "optimizer.momentum": {"low": 0.5, "high": 0.99, "when": {"optimizer": ["nesterov"]}},
    }
    nesterov = {"optimizer": "nesterov", "optimizer.lr": 0.05, "optimizer.momentum": 0.9}
    diverged = {"what": "training diverged: the loss is nan", "where": "a", "why": "lr", "fix": "a smaller one"}
    died = {"what": "its process died", "why": "signal 9: not enough memory, or kill -9"}
    trials = [
        trial(1, "finished", {"optimizer": "adam", "optimizer.lr": 0.01}, result={"val_accuracy": 0.9, "epochs": 5}),
        trial(2, "finished", nesterov, result={"val_accuracy": 0.95, "epochs": 5}),
        trial(3, "pruned", {"optimizer": "adam", "optimizer.lr": 0.001}, result={"val_accuracy": 0.3, "epochs": 2}),
        trial(4, "failed", {"optimizer": "adam", "optimizer.lr": 0.1}, error=diverged),
        trial(5, "failed", nesterov, error=diverged),
        trial(6, "killed", {"optimizer": "adam", "optimizer.lr": 0.02}, error=died),
        trial(7, "running", {"optimizer": "adam", "optimizer.lr": 0.03}),
        trial(8, "dropped", {"optimizer": "adam", "optimizer.lr": 0.04}, reasons=[{"what": "params is not <= 10"}]),
        trial(9, "waiting", {"optimizer": "adam", "optimizer.lr": 0.06}),
    ]
    curves = {"1": [0.5, 0.7, 0.8, 0.85, 0.9], "2": [0.6, 0.9, 0.93, 0.94, 0.95], "3": [0.1, 0.3], "6": [0.4],
              "7": [0.5, 0.6]}  # fmt: skip
    return write_sweep(folder, space, trials, best=[2], planned=12, curves=curves)
