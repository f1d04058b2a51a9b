"""The picture of a learning rate search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw(
    file: Path, title: str, rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float],
    steepest: float, lowest: float,
) -> None:  # fmt: skip
    """Loss over learning rate, both rates marked. ``file``: its ending says the format, e.g. ``.png``, ``.svg``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="0.8", linewidth=1, label="loss of each batch")
    axes.plot(rates, smooth, color="tab:blue", linewidth=2, label="running average")
    for rate, name, color in ((steepest, "falls fastest", "tab:green"), (lowest, "lowest", "tab:red")):
        axes.axvline(rate, color=color, linestyle="--", linewidth=1.2, label=f"{name} at {rate:.2g}")
    top = max(smooth[: max(len(smooth) // 2, 1)])
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=title)
    axes.set_ylim(min(smooth) - 0.1 * (top - min(smooth)), top + 0.35 * (top - min(smooth)))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=130)
