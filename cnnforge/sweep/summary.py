"""What came of a sweep as text: at its end, later, and as its description in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnforge.errors import ConfigError
from cnnforge.report.table import aligned, seconds_text
from cnnforge.sweep.report import Report, Tried
from cnnforge.sweep.table import short_names, shown, text
from cnnforge.sweep.trials import State

#: Trials that are shown; ``--json`` has all. And in the description.
MOST, MOST_NOTED = 30, 5
#: The order in which trials are counted.
_STATES: tuple[State, ...] = ("finished", "pruned", "failed", "killed", "running", "waiting", "dropped", "same")


def summary(report: Report) -> Iterator[str]:
    """Lines: the trials from the best on, why others failed or were dropped, how many of each, epochs, time."""
    yield from _table(report)
    yield ""
    yield from _failures(report)
    yield from _dropped(report)
    yield f"trials        {counts(report)}, {seconds_text(report.seconds)}{' so far' if report.alive else ''}"
    if report.trained:
        saved = report.saved
        share = f", {saved:,} saved by pruning ({saved / (report.trained + saved):.0%})" if saved else ""
        yield f"epochs        {report.trained:,} trained{share}"


def counts(report: Report) -> str:
    """``4 finished, 6 pruned``."""
    by_state = {state: len(report.of(state)) for state in _STATES}
    if report.planned:  # those that the sampler has not chosen yet are nowhere written
        begun = sum(by_state[state] for state in _STATES if state not in ("dropped", "same"))
        by_state["waiting"] += max(0, report.planned - begun)
    return ", ".join(f"{n} {state}" for state, n in by_state.items() if n or state == "finished")


def note(report: Report) -> str:
    """Markdown: the best trials as a table, and how many there are of which kind."""
    goals = [goal.metric for goal in report.goals]
    heads = ["trial", *short_names(list(report.axes)), *goals]
    lines = [f"**{report.raw['sweep']}**: {report.raw['sampler']}, to {aim(report)}; {counts(report)}"]
    if report.ranked:
        lines += ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for trial in report.ranked[:MOST_NOTED]:
        cells = [str(trial.number), *_values(report, trial), *_scores(report, trial)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def aim(report: Report) -> str:
    """``maximize val_accuracy and minimize macs``."""
    return " and ".join(f"{goal.towards} {goal.metric}" for goal in report.goals)


def _table(report: Report) -> Iterator[str]:
    sign = -1 if report.goals[0].maximizes else 1
    pruned = sorted(report.of("pruned"), key=lambda t: (-t.epoch, sign * t.curve.get(t.epoch, 0.0), t.number))
    others = report.of("running", "killed", "failed") + [t for t in report.of("waiting") if t.epoch]
    rest = [trial for trial in report.of("finished") if not trial.scored]
    trials = [*report.ranked, *pruned, *others, *rest]
    rows = [["trial", *short_names(list(report.axes)), *(goal.metric for goal in report.goals), ""]]
    rows += [
        [str(trial.number), *_values(report, trial), *_scores(report, trial), _remark(report, trial)]
        for trial in trials[:MOST]
    ]
    yield from aligned(rows, left=("",))
    if len(trials) > MOST:
        yield f"… and {len(trials) - MOST:,} more; --json has all"


def _values(report: Report, trial: Tried) -> list[str]:
    return [text(trial.values[key]) if key in trial.values else "" for key in report.axes]


def _scores(report: Report, trial: Tried) -> list[str]:
    """Its numbers with their deviations; of one that was ended early what it had reached."""
    if not trial.scored:
        last = trial.curve.get(trial.epoch)
        return [shown(goal.metric, last) if goal.metric == report.followed else "" for goal in report.goals]
    return [
        shown(goal.metric, score) + (f" ± {shown(goal.metric, spread)}" if spread is not None else "")
        for goal, score, spread in zip(report.goals, trial.scores, trial.spread, strict=True)
    ]


def _remark(report: Report, trial: Tried) -> str:
    if trial.scored:
        return ("best" if len(report.goals) == 1 else "front") if trial.number in report.best else ""
    far = f"{trial.epoch} of {trial.epochs} epochs"
    match trial.state:
        case "running":
            return f"running, {far}"
        case "waiting":
            return f"cut off after {far}"
        case "finished":
            return "no number"
        case _:
            return f"{trial.state} after {far}" if trial.epoch else trial.state


def _failures(report: Report) -> Iterator[str]:
    """Every error once, with the trials that ended in it."""
    failed = report.of("failed", "killed")
    if not failed:
        return
    yield f"{len(failed)} trial{'s' * (len(failed) > 1)} failed:"
    groups: dict[tuple[str, ...], list[Tried]] = {}
    for trial in failed:
        groups.setdefault(tuple(trial.error.get(part, "") for part in ("what", "why", "fix")), []).append(trial)
    for (what, why, fix), trials in groups.items():
        where = trials[0].error.get("where", "") if len(trials) == 1 else ""
        error = ConfigError(f"{_named('trial', [t.number for t in trials])}: {what}", where=where, why=why, fix=fix)
        yield f"  {error}".replace("\n", "\n  ")
    yield ""


def _dropped(report: Report) -> Iterator[str]:
    """Every reason once, in short: the check says more."""
    dropped = report.of("dropped")
    if not dropped:
        return
    yield f"{len(dropped)} point{'s were' if len(dropped) > 1 else ' was'} dropped:"
    groups: dict[str, list[int]] = {}
    for trial in dropped:
        for reason in trial.reasons:
            groups.setdefault(reason, []).append(trial.number)
    for reason, numbers in groups.items():
        yield f"  {_named('point', numbers)}: {reason}"
    yield ""


def _named(what: str, numbers: Sequence[int]) -> str:
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
