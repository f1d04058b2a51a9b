"""A checked sweep as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnforge.errors import dotted
from cnnforge.report.table import aligned, bytes_text, seconds_text
from cnnforge.sweep.check import CheckedSpace, by_reason
from cnnforge.sweep.points import Point

#: Rows that are shown: of trials, and of points that are only looked at. ``--json`` has all.
MOST_ROWS, MOST_PROBES = 100, 20
NOT_MEASURED = "training time: not measured on this machine; cnnforge sweep --check --time does it once"


def table(checked: CheckedSpace) -> str:
    """A line for each point with its values and costs, the reasons of those that are dropped, totals."""
    return "\n".join([_title(checked), "", *_rows(checked), "", *_dropped(checked), *_totals(checked)])


def _title(checked: CheckedSpace) -> str:
    spec, size = checked.spec, checked.size
    axes = f"{len(spec.space)} ax{'es' if len(spec.space) > 1 else 'is'}"
    points = "" if size is None else f" ({size:,} point{'s' * (size > 1)})"
    goals = (f"{goal.towards} {goal.metric}" for goal in spec.objective)
    return f"{spec.name}: {spec.chooses.type} over {axes}{points}, to {' and '.join(goals)}"


def _looked_at(checked: CheckedSpace) -> list[Point]:
    """Every point in order, duplicates left out."""
    return sorted((*checked.feasible, *checked.dropped), key=lambda point: point.number)


def _rows(checked: CheckedSpace) -> list[str]:
    keys = list(checked.spec.space)
    points = _looked_at(checked)
    most = MOST_PROBES if checked.probes else MOST_ROWS
    shown, left = points[:most], len(points) - most
    timed = any(point.cost is not None and point.cost.seconds is not None for point in points)
    copies: dict[int, list[int]] = {}
    for number, original in checked.duplicates.items():
        copies.setdefault(original, []).append(number)
    heads = ["point", *short_names(keys), "parameters", "MACs", "memory", *(["time"] if timed else []), ""]
    rows = [heads]
    for point in shown:
        values = [text(point.values[key]) if key in point.values else "" for key in keys]
        cost = ["", "", ""] if point.cost is None else [
            f"{point.cost.params:,}", f"{point.cost.macs:,}", bytes_text(point.cost.memory),
        ]  # fmt: skip
        seconds = point.cost.seconds if point.cost else None
        time = [seconds_text(seconds) if seconds is not None else ""] if timed else []
        same = copies.get(point.number)
        note = "dropped" if not point.feasible else f"also {', '.join(map(str, same))}" if same else ""
        rows.append([str(point.number), *values, *cost, *time, note])
    lines = aligned(rows, left=("",))
    lines.insert(1, "-" * max(map(len, lines)))
    return [*lines, *([f"… and {left:,} more; --json has all"] if left > 0 else [])]


def _dropped(checked: CheckedSpace) -> Iterator[str]:
    if not checked.dropped:
        return
    n = len(checked.dropped)
    yield f"{n} point{'s are' if n > 1 else ' is'} dropped:"
    for error in by_reason(checked.dropped):
        yield f"  {error}".replace("\n", "\n  ")
    yield ""


def _totals(checked: CheckedSpace) -> Iterator[str]:
    totals, spec = checked.totals, checked.spec
    if checked.duplicates:
        n = len(checked.duplicates)
        yield f"{n} point{'s are' if n > 1 else ' is'} the same run as another, which runs once"
    if checked.probes:
        looked = f"{len(checked.probes) + len(checked.dropped):,} points looked at, {len(checked.probes):,} of them fit"
        yield f"{looked}; {spec.chooses.type} chooses its points from the results"
    each = f", {totals.runs:,} runs" if totals.runs != totals.trials else ""
    number = (
        f"{totals.trials:,} trial{'s' * (totals.trials != 1)}{each}" if totals.trials else "trials until time is up"
    )
    at_once = f", {spec.parallel} at a time" if spec.parallel > 1 else ""
    yield f"{number}{at_once}; training memory at most {bytes_text(totals.memory)}"
    if totals.seconds is not None:
        yield f"training time {seconds_text(totals.seconds)} (as measured on this machine; validation not)"
    elif totals.trials:
        yield NOT_MEASURED
    yield from checked.notes


def short_names(keys: Sequence[str]) -> list[str]:
    """The last parts of each key, as many as tell it from the others; of a layer its name too."""
    found = []
    for key in keys:
        parts = key.lstrip("+").split(".")
        others = [other.lstrip("+").split(".") for other in keys if other != key]
        least = 2 if parts[:2] == ["model", "layers"] else 1
        n = next((n for n in range(least, len(parts)) if all(o[-n:] != parts[-n:] for o in others)), len(parts))
        found.append(".".join(parts[-n:]))
    return found


def text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text, value)) + "]"
    return str(value)


def shown(metric: str, value: float | None) -> str:
    """A number as its metric is read."""
    if value is None:
        return ""
    if metric.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4f}"


def to_json(checked: CheckedSpace) -> dict[str, Any]:
    """As ``cnnforge sweep --check --json`` prints it: memory in bytes, time in seconds, of training."""
    spec, totals = checked.spec, checked.totals
    return {
        "sweep": spec.name,
        "sampler": spec.chooses.type,
        "objective": [goal.to_json() for goal in spec.objective],
        "size": checked.size,
        "points": [point_json(point) for point in _looked_at(checked)],
        "duplicates": {str(number): original for number, original in checked.duplicates.items()},
        "trials": totals.trials,
        "runs": totals.runs,
        "memory": totals.memory,
        "seconds": totals.seconds,
        "notes": list(checked.notes),
    }


def point_json(point: Point) -> dict[str, Any]:
    """A point: its values, and its costs or the reasons why it has none."""
    about: dict[str, Any] = {
        "number": point.number,
        "values": dict(point.values),
        "overrides": list(point.overrides),
        "feasible": point.feasible,
    }
    if point.cost is not None:
        cost = point.cost
        about |= {"params": cost.params, "macs": cost.macs, "memory": cost.memory, "seconds": cost.seconds}
    if point.reasons:
        about["reasons"] = [error.to_dict() | {"path": dotted(error.path)} for error in point.reasons]
    return about
