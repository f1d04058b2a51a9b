"""Test accuracy against minutes of training: a run's own, beside another's, as a picture.

    python -m benchmarks.curve RUN [--beside NAME=FILE.json …] [--out curve.svg]

RUN is the folder of a run that kept every checkpoint (``trainer.keep=99``): each is tested, on the test split, after
the run. Its minutes are all in: from the first record of the run, with reading the data and compiling. FILE.json holds
another's points, ``[[minutes, accuracy], …]``; ``--points FILE.json`` writes this run's in the same form.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

Points = Sequence[tuple[float, float]]

#: Samples at a time.
BATCH = 500


def main(words: Sequence[str] | None = None) -> None:
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m benchmarks.curve"
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=FILE", help="another's points")
    parser.add_argument("--points", type=Path, metavar="FILE", help="write this run's points there")
    parser.add_argument("--out", type=Path, default=Path("curve.svg"), help="the picture, .svg or .png (%(default)s)")
    chosen = parser.parse_args(words)
    found = points(chosen.run)
    for minutes, accuracy in found:
        print(f"{minutes:6.2f} min  {accuracy:7.2%}")
    if chosen.points is not None:
        chosen.points.write_text(json.dumps(found) + "\n")
    curves: dict[str, Points] = {"cnnforge": found}
    for text in chosen.beside:
        name, _, file = text.partition("=")
        curves[name] = [(float(minutes), float(accuracy)) for minutes, accuracy in json.loads(Path(file).read_text())]
    draw(curves, chosen.out)


def points(run: Path) -> list[tuple[float, float]]:
    """(minutes since the run began, test accuracy) after each epoch whose checkpoint was kept."""
    from cnnforge import Model
    from cnnforge.config import read_run, validate
    from cnnforge.data import load
    from cnnforge.tracking import journal_path, read

    spec = validate(read_run(run / "config.yaml"))
    data = load(spec.data, spec.model.input, spec.seed)
    x, y = data.preprocessing.normalize(data.test.x), data.test.y
    records = read(journal_path(run))[0]
    ends = {r["step"]: r["time"] for r in records if r["kind"] == "metrics" and "train_loss" in r["values"]}
    found = []
    for folder in sorted((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name.removeprefix("step-"))):
        epoch = json.loads((folder / "state.json").read_text())["epoch"]
        model = Model.load(folder)
        right = sum(
            int((model.predict(x[low : low + BATCH]).argmax(1) == y[low : low + BATCH]).sum())
            for low in range(0, len(x), BATCH)
        )
        found.append(((ends[epoch] - records[0]["time"]) / 60_000, right / len(x)))
    return found


def draw(curves: Mapping[str, Points], out: Path) -> None:
    """Accuracy over minutes, a line for each."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        minutes, accuracies = zip(*curve, strict=True)
        (line,) = axes.plot(minutes, accuracies, marker="o", markersize=4, label=name)
        axes.annotate(
            f"{accuracies[-1]:.1%} after {minutes[-1]:.1f} min", (minutes[-1], accuracies[-1]), xytext=(0, 8),
            textcoords="offset points", ha="right", color=line.get_color(), fontsize=9,
        )  # fmt: skip
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("test accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
    axes.set_xlim(left=0)
    axes.margins(x=0.03, y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    # No date and no drawn names: the same points give the same file.
    with rc_context({"svg.hashsalt": "curve"}):
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
