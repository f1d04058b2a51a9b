"""A run's charts: each function draws one figure, and none where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from cnnforge.report.facts import Points, RunFacts, Series, Verdict
from cnnforge.report.table import bytes_text, seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}
WORDS = {"train": "training", "val": "validation", "test": "test"}
#: Points of a line, lines with a name, classes with numbers in their cells, and with names.
MOST_POINTS, MOST_NAMED, MOST_NUMBERED, MOST_CLASSES = 1000, 12, 20, 40
KINDS = {
    "grad_norm": "gradient norm", "update_ratio": "update / weights", "dead": "share of dead units",
}  # fmt: skip


def charts(facts: RunFacts) -> dict[str, bytes]:
    """Every chart there is something for, by the name of its file, as PNG."""
    drawn: Mapping[str, Callable[[RunFacts], Figure | None]] = {
        "learning_curves": curves, "confusion": confusion, "outputs": outputs, "layers": layers, "split": split,
    }  # fmt: skip
    figures = {name: draw(facts) for name, draw in drawn.items()}
    return {name: _png(figure) for name, figure in figures.items() if figure is not None}


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, dpi=DPI, format="png")
    return out.getvalue()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def curves(facts: RunFacts) -> Figure | None:
    """Loss and accuracy by epoch and by step, and the learning rate."""
    panels: list[tuple[str, Callable[[Axes], None]]] = []
    for kind in ("loss", "accuracy"):
        if any(f"{part}_{kind}" in facts.epochs for part in COLOURS):
            panels.append((f"{kind} by epoch", partial(_by_epoch, epochs=facts.epochs, kind=kind)))
    if points := facts.steps.get("lr"):
        panels.append(("learning rate by step", partial(_rate, points=points)))
    for kind in ("loss", "accuracy"):
        if points := facts.steps.get(f"train_{kind}"):
            panels.append((f"training {kind} by step", partial(_by_step, points=points, kind=kind)))
    if points := facts.steps.get("grad_norm"):
        panels.append(("gradient norm by step", partial(_by_step, points=points, kind="norm")))
    if not panels:
        return None
    columns = min(len(panels), 3)
    rows = ceil(len(panels) / columns)
    figure = _figure(3.9 * columns, 2.9 * rows)
    for i, (title, draw) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        draw(axes)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    return figure


def _by_epoch(axes: Axes, epochs: Series, kind: str) -> None:
    for part, colour in COLOURS.items():
        points = epochs.get(f"{part}_{kind}")
        if not points:
            continue
        x, y = zip(*points, strict=True)
        if part == "test":
            axes.plot(x[-1:], y[-1:], "*", color=colour, markersize=11, label=f"test {_text(y[-1], kind)}", zorder=4)
        else:
            label = f"{WORDS[part]} {_text(y[-1], kind)}"
            axes.plot(x, y, color=colour, marker="o" if len(x) < 25 else None, markersize=3, label=label)
    _scale(axes, kind)
    _whole(axes)
    axes.legend(frameon=False, fontsize=8)


def _by_step(axes: Axes, points: Points, kind: str) -> None:
    x, y = _thinned(points)
    if len(y) > 8:
        axes.plot(x, y, color="tab:blue", linewidth=0.8, alpha=0.35)
        y = _smoothed(y, max(3, len(y) // 40))
    axes.plot(x, y, color="tab:blue", linewidth=1.6)
    _scale(axes, kind)
    _whole(axes)


def _rate(axes: Axes, points: Points) -> None:
    x, y = _thinned(points)
    axes.plot(x, y, color="tab:purple", linewidth=1.6)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.set_ylim(bottom=0, top=1.08 * max(y) or 1.0)
    _whole(axes)


def _scale(axes: Axes, kind: str) -> None:
    from matplotlib.ticker import PercentFormatter

    if kind == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _whole(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """A scale with names at 1, 2 and 5 where its range is short, else at powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    if max(values) > 50 * min(values):
        return
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _text(value: float, kind: str) -> str:
    return f"{value:.2%}" if kind == "accuracy" else f"{value:.4g}"


def _thinned(points: Points) -> tuple[list[int], list[float]]:
    """At most some thousand points: means of neighbours."""
    each = ceil(len(points) / MOST_POINTS)
    x = [points[min(i + each, len(points)) - 1][0] for i in range(0, len(points), each)]
    y = [float(np.mean([value for _, value in points[i : i + each]])) for i in range(0, len(points), each)]
    return x, y


def _smoothed(y: Sequence[float], span: int) -> list[float]:
    """A running mean over ``span`` points; fewer at the beginning."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    low = [max(0, i + 1 - span) for i in range(len(y))]
    return [float((total[i + 1] - total[first]) / (i + 1 - first)) for i, first in enumerate(low)]


def confusion(facts: RunFacts) -> Figure | None:
    """What each class was taken for: colours are shares of the row, numbers are samples."""
    verdict = facts.verdict
    if verdict is None or verdict.confusion is None:
        return None
    table, k = verdict.confusion, len(verdict.names)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 3.6 + 0.34 * min(k, 20)
    figure = _figure(side + 0.4, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if k <= MOST_CLASSES:
        names = [name if len(name) <= 14 else name[:13] + "…" for name in verdict.names]
        turned = max(map(len, names)) > 3
        axes.set_xticks(range(k), names, fontsize=8, rotation=90 if turned and k > 4 else 0)
        axes.set_yticks(range(k), names, fontsize=8)
    if k <= MOST_NUMBERED:
        size = 9 if table.max() < 1000 or k <= 10 else 6.5
        for (i, j), count in np.ndenumerate(table):
            if count:
                axes.text(j, i, f"{count}", ha="center", va="center", fontsize=size,
                          color="white" if shares[i, j] > 0.55 else "black")  # fmt: skip
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{verdict.split}, {verdict.samples:,} samples", fontsize=10)
    return figure


def outputs(facts: RunFacts) -> Figure | None:
    """Of a regression, outputs over targets; of two classes, how sure of yes the model was of either."""
    verdict = facts.verdict
    if verdict is None:
        return None
    if verdict.yes is not None:
        return _yes(verdict)
    if verdict.outputs is None or verdict.targets is None:
        return None
    shown = min(verdict.outputs.shape[1], 6)
    columns = min(shown, 3)
    figure = _figure(3.6 * columns, 3.4 * ceil(shown / columns))
    for i in range(shown):
        axes = figure.add_subplot(ceil(shown / columns), columns, i + 1)
        target, output = verdict.targets[:, i], verdict.outputs[:, i]
        ends = [float(target.min()), float(target.max())]
        axes.plot(ends, ends, color="0.5", linewidth=1)
        axes.plot(target, output, ".", markersize=3, alpha=0.5)
        axes.set_title(f"output {verdict.names[i]}", fontsize=10)
        axes.set_xlabel("target")
        axes.set_ylabel("output" if i % columns == 0 else "")
        axes.grid(alpha=0.25)
    return figure


def _yes(verdict: Verdict) -> Figure:
    assert verdict.yes is not None
    probabilities, labels = verdict.yes
    figure = _figure(5.2, 3.2)
    axes = figure.add_subplot()
    for label, colour in ((0, "tab:blue"), (1, "tab:orange")):
        axes.hist(
            probabilities[labels == label], bins=25, range=(0, 1), alpha=0.6, color=colour, label=verdict.names[label]
        )
    axes.axvline(0.5, color="0.4", linestyle="--", linewidth=1)
    axes.set_xlabel(f"probability of {verdict.names[1]}")
    axes.set_ylabel("samples")
    axes.legend(frameon=False, fontsize=8, title="is", title_fontsize=8)
    return figure


def layers(facts: RunFacts) -> Figure | None:
    """What went on in each layer during training, from the first in dark to the last in bright."""
    from matplotlib import colormaps

    kinds = [kind for kind in KINDS if facts.layers.get(kind)]
    if not kinds:
        return None
    most = max(len(facts.layers[kind]) for kind in kinds)
    figure = _figure(4.1 * len(kinds), 3.4 + 0.17 * min(most, MOST_NAMED))
    for i, kind in enumerate(kinds):
        axes = figure.add_subplot(1, len(kinds), i + 1)
        lines = facts.layers[kind]
        for rank, (layer, points) in enumerate(lines.items()):
            x, y = _thinned(points)
            colour = colormaps["viridis"](0.9 * rank / max(len(lines) - 1, 1))
            name = layer if len(lines) <= MOST_NAMED or rank in (0, len(lines) - 1) else None
            axes.plot(
                x, y, color=colour, linewidth=1.3, marker="o" if len(x) < 25 else None, markersize=2.5, label=name
            )
        if kind != "dead" and any(value > 0 for points in lines.values() for _, value in points):
            _logarithmic(axes, [value for points in lines.values() for _, value in points if value > 0])
        elif kind == "dead":
            axes.set_ylim(-0.03, 1.03)
            _scale(axes, "accuracy")
        axes.set_title(KINDS[kind], fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.25)
        axes.tick_params(which="both", labelsize=8)
        _whole(axes)
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _bytes(value: float) -> str:
    return bytes_text(int(value))


def split(facts: RunFacts) -> Figure | None:
    """Where time and memory went."""
    panels: list[tuple[str, dict[str, float], Callable[[float], str]]] = []
    if facts.seconds:
        panels.append(("time", dict(facts.seconds), seconds_text))
    memory = {name: float(n) for name, n in (facts.memory or {}).items() if name != "total"}
    if memory:
        panels.append(("memory of a training step", memory, _bytes))
    if not panels:
        return None
    figure = _figure(4.6 * len(panels), 0.9 + 0.3 * max(len(parts) for _, parts, _ in panels))
    for i, (title, parts, text) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        names = list(parts)[::-1]
        bars = axes.barh(
            [name.replace("_", " ") for name in names],
            [parts[name] for name in names],
            color=("tab:blue", "tab:green")[i],
            height=0.6,
        )
        axes.bar_label(bars, [text(parts[name]) for name in names], padding=4, fontsize=8)
        axes.set_xlim(0, 1.3 * max(parts.values()) or 1.0)
        axes.xaxis.set_visible(False)
        axes.tick_params(labelsize=8)
        axes.spines[["right", "top", "bottom"]].set_visible(False)
        axes.set_title(title, fontsize=10)
    return figure
