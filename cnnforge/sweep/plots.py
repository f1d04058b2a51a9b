"""A sweep's pictures, ``SWEEP/plots/*.png``: which values the good trials have, what matters, how it went."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.sweep.report import Report
from cnnforge.sweep.scales import ABSENT, is_wide, of_axis, of_numbers
from cnnforge.sweep.study import importances
from cnnforge.sweep.table import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The folder in a sweep's.
FOLDER = "plots"
#: Colours: of the best and of what is still running, of trials that were ended early, of those that failed.
BEST, GONE, FAILED = "tab:orange", "0.6", "tab:red"
#: Of trials from the worst to the best.
COLOURS = "viridis"
#: Trials on a front that are named.
MOST_NAMED = 12


def draw(report: Report) -> list[Path]:
    """Draw what there is to be drawn, over what was drawn before. Returns the files, none where no trial has a number.

    Raises OSError where they cannot be written.
    """
    pictures: dict[str, Callable[[Report], Figure | None]] = {
        "parallel": parallel, "importance": importance, "history": history, "epochs": epochs, "pareto": pareto,
    }  # fmt: skip
    made = []
    for name, picture in pictures.items():
        figure = picture(report)
        if figure is not None:
            made.append(_save(figure, report.folder / FOLDER / f"{name}.png"))
    return made


def parallel(report: Report) -> Figure | None:
    """Each trial a line through its values: an axis for each key of the space, and behind them each objective."""
    done = report.ranked
    if not done:
        return None
    names = [*short_names(list(report.axes)), *(goal.metric for goal in report.goals)]
    scales = [of_axis(axis) for axis in report.axes.values()]
    scales += [of_numbers([t.scores[i] or 0.0 for t in done], goal.metric) for i, goal in enumerate(report.goals)]
    figure, (axes,) = _figure(max(6.0, min(1.7 * len(names) + 1.0, 24.0)), 4.8)
    for rank, trial in enumerate(reversed(done)):
        values = [trial.values.get(key) for key in report.axes]
        heights = [scale.height(value) for scale, value in zip(scales, [*values, *trial.scores], strict=True)]
        best = trial.number in report.best
        axes.plot(
            range(len(names)), heights, color=BEST if best else _colour(rank, len(done)), zorder=3 if best else 2,
            linewidth=2.2 if best else 1.0, alpha=1.0 if best else 0.65, marker="o", markersize=4 if best else 2.5,
        )  # fmt: skip
    for x, scale in enumerate(scales):
        axes.axvline(x, color="0.3", linewidth=1, zorder=1)
        for height, label in scale.ticks:
            axes.annotate(
                label, (x, height), xytext=(-5, 0), textcoords="offset points", ha="right", va="center", fontsize=8,
                zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
            )  # fmt: skip
    for x, key in enumerate(report.axes):
        if any(key not in trial.values for trial in done):
            axes.annotate("none", (x, ABSENT), xytext=(-5, 0), textcoords="offset points", ha="right", va="center",
                          fontsize=8, color="0.4")  # fmt: skip
    axes.set_xticks(range(len(names)), names, fontsize=9, rotation=20 if len(names) > 7 else 0)
    axes.set_xlim(-0.65, len(names) - 0.8)
    axes.set_ylim(ABSENT - 0.05 if any(len(t.values) < len(report.axes) for t in done) else -0.05, 1.05)
    axes.yaxis.set_visible(False)
    axes.spines[["left", "right", "top", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    trials = f"{len(done)} finished trial{'s' * (len(done) > 1)}"
    figure.suptitle(f"{_title(report)}: {trials}, the best in orange", fontsize=11)
    return figure


def importance(report: Report) -> Figure | None:
    """The share of each axis in what makes the best trials best."""
    scores = [(t.values, [s for s in t.scores if s is not None]) for t in report.ranked]
    shares = importances(report.axes, report.goals, scores)
    if len(shares) < 2 or not all(map(isfinite, shares.values())):
        return None
    keys = list(report.axes)
    names = dict(zip(keys, short_names(keys), strict=True))
    order = sorted(shares, key=lambda key: shares[key])
    figure, (axes,) = _figure(6.5, 1.3 + 0.38 * len(order))
    bars = axes.barh([names[key] for key in order], [shares[key] for key in order], color="tab:blue", height=0.6)
    axes.bar_label(bars, [f"{shares[key]:.0%}" for key in order], padding=4, fontsize=9)
    axes.set_xlim(0, 1.15 * max(shares.values()))
    axes.xaxis.set_visible(False)
    axes.spines[["right", "top", "bottom"]].set_visible(False)
    figure.suptitle(f"{_title(report)}: what tells the best of {len(scores)} trials from the others", fontsize=11)
    return figure


def history(report: Report) -> Figure | None:
    """Every trial's numbers by its own, and the best so far; those that were ended early, and those that failed."""
    done = sorted(report.ranked, key=lambda trial: trial.number)
    if not done:
        return None
    figure, panels = _figure(7.5, 1.3 + 2.9 * len(report.goals), rows=len(report.goals))
    for i, (goal, axes) in enumerate(zip(report.goals, panels, strict=True)):
        numbers, values = [t.number for t in done], [t.scores[i] or 0.0 for t in done]
        better = max if goal.maximizes else min
        so_far = [better(values[: n + 1]) for n in range(len(values))]
        gone = [(t.number, t.curve[t.epoch]) for t in report.of("pruned") if t.epoch in t.curve]
        if gone and goal.metric == report.followed:
            axes.plot(*zip(*gone, strict=True), "x", color=GONE, label="pruned, its last epoch")
        last = max(trial.number for trial in report.trials if trial.scored or trial.epoch)
        axes.plot(
            [*numbers, last], [*so_far, so_far[-1]], drawstyle="steps-post", color=BEST, label="best so far", zorder=2
        )
        spread = [t.spread[i] for t in done]
        if any(spread):
            axes.errorbar(numbers, values, [s or 0.0 for s in spread], fmt="none", ecolor="tab:blue", alpha=0.5)
        axes.plot(numbers, values, "o", color="tab:blue", markersize=5, label="finished", zorder=3)
        if failed := [t.number for t in report.of("failed", "killed")]:
            axes.plot(
                failed, [0.03] * len(failed), "v", color=FAILED, label="failed", transform=axes.get_xaxis_transform()
            )
        _measure(axes, goal.metric, [*values, *(value for _, value in gone)])
        _whole_numbers(axes)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    panels[-1].set_xlabel("trial")
    figure.suptitle(_title(report), fontsize=11)
    return figure


def epochs(report: Report) -> Figure | None:
    """The learning curves of all trials; of those that were ended early as far as they came."""
    curves = [trial for trial in report.trials if trial.curve]
    if not curves:
        return None
    ranks = {trial.number: rank for rank, trial in enumerate(reversed(report.ranked))}
    figure, (axes,) = _figure(7.5, 4.6)
    for trial in curves:
        x, y = list(trial.curve), list(trial.curve.values())
        marker = "o" if len(x) == 1 else None
        if trial.number in report.best[:1]:
            axes.plot(x, y, color=BEST, linewidth=2.4, marker=marker, zorder=4)
        elif trial.number in ranks:
            colour = _colour(ranks[trial.number], len(ranks))
            axes.plot(x, y, color=colour, linewidth=1.2, marker=marker, alpha=0.8, zorder=3)
        elif trial.state == "running":
            axes.plot(x, y, color="tab:blue", linewidth=1.2, linestyle=":", marker=marker, zorder=3)
        else:
            gone = trial.state == "pruned"
            axes.plot(x, y, color=GONE if gone else FAILED, linewidth=1.0, alpha=0.8, zorder=2)
            axes.plot(x[-1], y[-1], "x", color=GONE if gone else FAILED, zorder=2)
    _key_of_curves(report, axes)
    _measure(axes, report.followed, [value for trial in curves for value in trial.curve.values()])
    _whole_numbers(axes)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    figure.suptitle(_title(report), fontsize=11)
    return figure


def _key_of_curves(report: Report, axes: Axes) -> None:
    """Names, without drawing anything, the kinds of lines that there are."""
    if report.best:
        axes.plot([], [], color=BEST, linewidth=2.4, label=f"best (trial {report.best[0]})")
    if len(report.ranked) > 1:
        axes.plot([], [], color=_colour(1, 3), label="finished, the brighter the better")
    if report.of("running"):
        axes.plot([], [], color="tab:blue", linestyle=":", label="running")
    if report.of("pruned"):
        axes.plot([], [], color=GONE, marker="x", label="pruned")
    if any(trial.curve for trial in report.of("failed", "killed", "waiting")):
        axes.plot([], [], color=FAILED, marker="x", label="failed or cut off")
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def pareto(report: Report) -> Figure | None:
    """Of two objectives, the trials that no other beats in both."""
    done = report.ranked
    if len(report.goals) != 2 or not done:
        return None
    first, second = report.goals
    figure, (axes,) = _figure(7.0, 4.8)
    pairs = [(t, t.scores[1] or 0.0, t.scores[0] or 0.0) for t in done]
    front = sorted([pair for pair in pairs if pair[0].number in report.best], key=lambda pair: pair[1])
    others = [pair for pair in pairs if pair[0].number not in report.best]
    if others:
        axes.plot([x for _, x, _ in others], [y for _, _, y in others], "o", color=GONE, markersize=4, label="beaten")
    axes.plot([x for _, x, _ in front], [y for _, _, y in front], "o-", color=BEST, label="not beaten in both")
    places: dict[tuple[float, float], list[str]] = {}
    for trial, x, y in front:
        places.setdefault((x, y), []).append(str(trial.number))
    for (x, y), numbers in list(places.items())[:: ceil(len(places) / MOST_NAMED)]:
        above = 7 if first.maximizes else -7
        label = ", ".join(numbers[:3]) + (" …" if len(numbers) > 3 else "")
        axes.annotate(label, (x, y), xytext=(0, above), textcoords="offset points", ha="center",
                      va="bottom" if first.maximizes else "top", fontsize=8)  # fmt: skip
    _measure(axes, first.metric, [y for _, _, y in pairs])
    _measure(axes, second.metric, [x for _, x, _ in pairs], across=True)
    axes.margins(0.08, 0.12)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.suptitle(f"{_title(report)}: the front (numbers are trials)", fontsize=11)
    return figure


def _figure(width: float, height: float, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure of so many inches, and its panels one below another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0])


def _save(figure: Figure, file: Path) -> Path:
    """Write the picture whole or not at all: a driver and a report may both be at it."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, dpi=130, format="png")
    temporary.replace(file)
    return file


def _title(report: Report) -> str:
    return report.folder.name


def _colour(rank: int, of: int) -> tuple[float, float, float, float]:
    """Of a trial, by its rank from the worst; the brightest yellow cannot be seen on white."""
    from matplotlib import colormaps

    return colormaps[COLOURS](0.9 * rank / max(of - 1, 1))


def _measure(axes: Axes, metric: str, values: Sequence[float], across: bool = False) -> None:
    """Name and scale of an axis that has a metric."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter

    axis = axes.xaxis if across else axes.yaxis
    axis.set_label_text(metric)
    if metric.endswith("accuracy"):
        axis.set_major_formatter(PercentFormatter(1.0))
    elif is_wide(values, metric):
        (axes.set_xscale if across else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axis.set_major_formatter(EngFormatter(sep="") if max(values) >= 1e4 else lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    elif max(values) >= 1e4:
        axis.set_major_formatter(EngFormatter(sep=""))


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
