"""Runs as text: many in a table, some side by side, one in full. Numbers come from ``cnnforge.tracking.history``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from cnnforge.report.table import aligned, bytes_text, seconds_text
from cnnforge.tracking.history import Told, trial_count

#: Differing values of layers that are shown one by one; more are counted.
MOST_LAYERS = 20
_LAYERS = "model.layers."
#: Of a result, what is compared and shown, in this order: its name, and how it reads.
NUMBERS = (
    "test_accuracy", "test_loss", "best_val_accuracy", "best_val_loss", "val_accuracy", "val_loss", "train_accuracy",
    "train_loss", "epochs", "steps", "wall_seconds", "samples_per_second", "peak_memory_bytes",
)  # fmt: skip

#: By what runs can be sorted; what a run does not have stands last.
KEYS: Mapping[str, Callable[[Told], Any]] = {
    "started": lambda run: run.started or None,
    "name": lambda run: run.name,
    "status": lambda run: run.status,
    "model": lambda run: run.params.get("model.name"),
    "data": lambda run: run.data.get("name") or run.params.get("data.type"),
    "params": lambda run: weights(run),
    "epochs": lambda run: run.result.get("epochs"),
    "val": lambda run: _order(run, "best_val_", "val_"),
    "test": lambda run: _order(run, "test_"),
    "time": lambda run: run.seconds,
}
#: Those of which more, or later, is what is looked for first.
_MOST_FIRST = frozenset({"started", "val", "test"})


def ordered(runs: Sequence[Told], key: str) -> list[Told]:
    """The runs by one of ``KEYS``: newest, best, smallest or shortest first, names by the alphabet."""
    have = [run for run in runs if KEYS[key](run) is not None]
    return sorted(have, key=KEYS[key], reverse=key in _MOST_FIRST) + [run for run in runs if KEYS[key](run) is None]


def weights(run: Told) -> int | None:
    """A model's number of parameters."""
    text = run.tags.get("params", "")
    return int(text) if text.isdecimal() else None


def listing(runs: Sequence[Told]) -> list[str]:
    """A line for each: how it is, what it trained, what it reached."""
    heads = ["run", "status", "model", "data", "parameters", "epochs", "validation", "test", "time", "started"]
    rows = [heads, *(_cells(run) for run in runs)]
    kept = [i for i, column in enumerate(zip(*rows, strict=True)) if i < 2 or any(column[1:])]
    lines = aligned([[row[i] for i in kept] for row in rows], left=("run", "status", "model", "data", "started"))
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _cells(run: Told) -> list[str]:
    seconds = seconds_text(run.seconds) if run.started else ""
    if run.kind == "sweep":
        counts = [f"{trial_count(run.folder):,} trials", "", "", ""]
        best = next((text for name, text in _scores(run.result) if name.startswith("best/")), "")
        return [run.name, run.status, *counts, best, "", seconds, moment(run.started)]
    size = weights(run)
    planned, done = run.params.get("trainer.epochs", ""), run.result.get("epochs")
    data = run.data.get("name") or run.params.get("data.type", "")
    return [
        run.name, run.status, run.params.get("model.name", ""), str(data), f"{size:,}" if size is not None else "",
        f"{done or 0}/{planned}" if planned else "", _score(run, "best_val_", "val_"), _score(run, "test_"), seconds,
        moment(run.started),
    ]  # fmt: skip


def _score(run: Told, *prefixes: str) -> str:
    """The accuracy, or where there is none the loss, by the first prefix that has one."""
    for kind in ("accuracy", "loss"):
        for prefix in prefixes:
            if (value := _finite(run.result.get(prefix + kind))) is not None:
                return f"{value:.2%}" if kind == "accuracy" else f"loss {value:.4g}"
    return ""


def _order(run: Told, *prefixes: str) -> tuple[int, float] | None:
    """What more of is better: accuracies before losses."""
    for rank, kind in ((1, "accuracy"), (0, "loss")):
        for prefix in prefixes:
            if (value := _finite(run.result.get(prefix + kind))) is not None:
                return rank, value if rank else -value
    return None


def _scores(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in result.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, number(name, value)


def facts(run: Told) -> list[tuple[str, str]]:
    """What a run is, in a few rows."""
    rows = [("status", run.status), ("started", f"{moment(run.started)}, {seconds_text(run.seconds)}")]
    if run.kind == "sweep":
        rows.append(("sweep", f"{run.params.get('sweep.name', run.name)}, {trial_count(run.folder):,} trials"))
    else:
        size = weights(run)
        rows.append(("model", run.params.get("model.name", "") + (f", {size:,} parameters" if size else "")))
    if run.data:
        splits = ", ".join(f"{count:,} {name}" for name, count in run.data["splits"].items())
        rows.append(("data", f"{run.data['name']}: {splits}"))
    if "git.commit" in run.tags:
        rows.append(("commit", run.tags["git.commit"]))
    return [*rows, ("in MLflow", run.mlflow_run_id or "not sent")]


def numbers(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A result's rows; a sweep's are its counts and best numbers."""
    known = dict(_scores(result))
    names = [name for name in NUMBERS if name in known] or list(known)
    return [(name, known[name]) for name in names]


def number(name: str, value: float) -> str:
    """A result's number as it is read."""
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    if name.endswith("_bytes"):
        return bytes_text(int(value))
    if name.endswith("seconds"):
        return seconds_text(float(value))
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.5g}"


def moment(ms: int) -> str:
    """A time as the reader's clock has it, to the minute."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M") if ms else ""


def comparison(runs: Sequence[Told], differing: Mapping[str, Sequence[str]]) -> list[str]:
    """What differs between runs, a column for each: config values, then numbers; the best number has a star.

    differing: config values by name, as of ``tracking.history.differing``
    """
    lines: list[tuple[str, ...]] = [("", *(run.name for run in runs)), ("status", *(run.status for run in runs))]
    if len(digests := {str(run.data.get("digest", "")) for run in runs}) > 1 and digests:
        lines.append(("data digest", *(str(run.data.get("digest", ""))[:12] for run in runs)))
    layers = [name for name in differing if name.startswith(_LAYERS)]
    folded = len(layers) > MOST_LAYERS
    lines += [(name, *row) for name, row in differing.items() if not (folded and name.startswith(_LAYERS))]
    if folded:
        counts = (str(len({n.split(".")[2] for n in run.params if n.startswith(_LAYERS)})) for run in runs)
        lines.append((f"layers ({len(layers)} values differ)", *counts))
    numbers = [(name, [_finite(run.result.get(name)) for run in runs]) for name in NUMBERS]
    rows = [(name, *_starred(name, values)) for name, values in numbers if any(v is not None for v in values)]
    text = aligned([*lines, *rows], left=("", *(run.name for run in runs)))
    rule = "-" * max(map(len, text))
    return [text[0], rule, *text[1 : len(lines)], rule, *text[len(lines) :]]


def _starred(name: str, values: Sequence[float | None]) -> Iterator[str]:
    known = [value for value in values if value is not None]
    best = max(known) if name.endswith("accuracy") else min(known)
    wanted = name.endswith(("accuracy", "loss")) and len(set(known)) > 1
    for value in values:
        yield "" if value is None else number(name, value) + (" *" if wanted and value == best else "")


def _finite(value: Any) -> float | None:
    """A number that can be compared; a journal has others as text or as no number."""
    plain = isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
    return value if plain else None


def told_json(run: Told) -> dict[str, Any]:
    """A run as ``--json`` prints it; numbers that are not finite are null."""
    result = {name: None if isinstance(v, float) and v - v != 0 else v for name, v in run.result.items()}
    return {
        "name": run.name, "kind": run.kind, "folder": str(run.folder), "status": run.status,
        "model": run.params.get("model.name"), "data": run.data.get("name") or run.params.get("data.type"),
        "params": weights(run), "started": run.started, "last": run.last, "seconds": round(run.seconds, 3),
        "mlflow_run_id": run.mlflow_run_id, "result": result,
    }  # fmt: skip
