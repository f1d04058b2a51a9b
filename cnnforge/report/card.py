"""A run's model card: Markdown that says what was trained, on what, what came of it, and how to go on from there.

It stands in the run folder and is the run's description in MLflow, where a label holds so many characters and no more:
a deep net's layers are folded until they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnforge.report.table import HEAD, aligned, by, bytes_text, layer_lines, seconds_text
from cnnforge.spec import Row, RunSpec

#: Characters of a card, and lines of its table of layers.
LENGTH, MOST_LAYERS = 7800, 40
#: Pixels: a wider picture would push what stands beside the description off MLflow's page, so it gets a link.
MOST_WIDE = 720
#: Stands where MLflow's id of the run belongs, which is not known when the card is written: the sender puts it there.
RUN_ID = "RUN_ID"
#: Of a result, what is said of it, in this order; what it lacks is left out.
_NUMBERS = (
    ("test_accuracy", "test accuracy"), ("test_loss", "test loss"),
    ("best_val_accuracy", "best validation accuracy"), ("best_val_loss", "its loss"),
    ("train_accuracy", "training accuracy, last epoch"), ("train_loss", "training loss, last epoch"),
)  # fmt: skip
_COLUMNS = ("layer", "type", "output", "f", "s", "p", "parameters", "MACs")


def card(
    spec: RunSpec,
    result: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    folder: str,
    diagram: str | None = None,
    pictures: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """At most ``LENGTH`` characters of Markdown.

    result:   what ``result.json`` holds, as far as there is one
    data:     name, digest, splits (samples by name), shape, classes; may be empty
    folder:   the run's, as its reader would type it
    diagram:  the file of the run folder that has a picture of the network, above the table of layers
    pictures, links: more of its files by what they show, at the end; those that are too wide are only named
    """
    before = [_headline(spec, result, data), *([f"![{spec.model.name}]({diagram})"] if diagram else [])]
    after = [
        _results(result), _data(data), _training(spec), _loading(spec, folder), _again(folder),
        *(f"### {title}\n\n![{title}]({path})" for title, path in (pictures or {}).items()),
        "More pictures: " * bool(links) + ", ".join(f"[{title}]({path})" for title, path in (links or {}).items()),
    ]  # fmt: skip
    room = LENGTH - sum(len(part) + 2 for part in (*before, *after))
    return "\n\n".join(part for part in (*before, _layers(spec, room), *after) if part) + "\n"


def _headline(spec: RunSpec, result: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    on = f" on **{data['name']}**" if data else ""
    reached = ""
    samples = data.get("splits", {}).get("test")
    if (accuracy := result.get("test_accuracy")) is not None:
        reached = f": {accuracy:.2%} of {samples:,} test pictures right" if samples else f": test {accuracy:.2%}"
    elif (loss := result.get("test_loss")) is not None:
        reached = f": test loss {loss:.6g}"
    weights = sum(row.param_count for row in spec.model.table)
    return (
        f"**{spec.model.name}**{on}{reached}. A convolutional network of {weights:,} parameters that takes "
        f"{by(spec.model.input)} pictures."
    )


def _layers(spec: RunSpec, room: int) -> str:
    """The table in as much detail as ``room`` characters and the reader's patience take, or none."""
    rows = spec.model.table
    deepest = max(row.name.count(".") for row in rows) + 1
    depth = next((n for n in range(deepest, 1, -1) if len(layer_lines(rows, n)) <= MOST_LAYERS), 1)
    tries = [(n, MOST_LAYERS) for n in range(depth, 0, -1)] + [(1, most) for most in (20, 10, 4)]
    return next((text for n, most in tries if len(text := _table(rows, n, most)) <= room), "")


def _table(rows: Sequence[Row], depth: int, most: int) -> str:
    places = [HEAD.index(name) for name in _COLUMNS]
    lines = [[cells[i] for i in places] + [cells[-1]] for _, cells in layer_lines(rows, depth)]
    if len(lines) > most:
        first, last = most - most // 4 - 1, most // 4
        hidden = [f"{len(lines) - first - last} more lines", "…", *[""] * (len(_COLUMNS) - 1)]
        lines = [*lines[:first], hidden, *lines[-last:]]
    params, macs = sum(row.param_count for row in rows), sum(row.macs for row in rows)
    lines.append(["total", *[""] * 5, f"{params:,}", f"{macs:,}", ""])
    return _text([[*_COLUMNS, ""], *lines])


def _text(rows: Sequence[Sequence[str]], left: Sequence[str] = ("layer", "type", "output", "")) -> str:
    """Columns that stand as they are: MLflow's pages draw Markdown's own tables without room between columns."""
    return "\n".join(["```text", *aligned(rows, left), "```"])


def _results(result: Mapping[str, Any]) -> str:
    lines = []
    for name, text in _NUMBERS:
        if isinstance(value := result.get(name), int | float):
            lines.append([text, f"{value:.2%}" if name.endswith("accuracy") else f"{value:.5g}"])
    if epochs := result.get("epochs"):
        rate = result.get("samples_per_second")
        speed = f", {rate:,.0f} samples/s" if isinstance(rate, int | float) else ""
        wall = result.get("wall_seconds")
        took = f" in {seconds_text(wall)}" if isinstance(wall, int | float) else ""
        lines.append([f"epochs ({result.get('status', 'not over')})", f"{epochs}{took}{speed}"])
    if isinstance(peak := result.get("peak_memory_bytes"), int):
        lines.append(["peak memory", bytes_text(peak)])
    return "### Results\n\n" + _text(lines, lines[0]) if lines else ""


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    splits = ", ".join(f"{count:,} {name}" for name, count in data["splits"].items())
    classes = f", {data['classes']} classes" if data.get("classes") else ""
    return f"### Data\n\n**{data['name']}**: {splits} samples{classes}. Digest `{str(data['digest'])[:16]}`."


def _training(spec: RunSpec) -> str:
    trainer, optimizer = spec.trainer, spec.optimizer
    augmented = spec.augment.model_dump(exclude_defaults=True, exclude_none=True)
    parts = [
        f"{optimizer.type}, learning rate {optimizer.lr:g}, schedule {spec.schedule.type}",
        f"{trainer.epochs} epoch{'s' * (trainer.epochs != 1)} of batches of {trainer.batch_size * trainer.accumulate}",
        f"loss {spec.model.effective_loss.type}",
        f"augmentation {', '.join(augmented)}" if augmented else "no augmentation",
        f"seed {spec.seed}",
    ]
    return f"### Training\n\n{'; '.join(parts)}."


def _loading(spec: RunSpec, folder: str) -> str:
    lines = [
        "### Use it", "", "```python", "import cnnforge", "", f'model = cnnforge.Model.load("{folder}")',
        "x = model.preprocessing.apply(pictures)  # (n, h, w, c) as they are stored -> network input",
        "model.predict(x)", "```",
    ]  # fmt: skip
    if spec.tracking.enabled and spec.tracking.log_model:
        lines += [
            "", "From MLflow, on network input:", "", "```python", "import mlflow", "",
            f'model = mlflow.pyfunc.load_model("runs:/{RUN_ID}/model")', "model.predict(x)", "```",
        ]  # fmt: skip
    return "\n".join(lines)


def _again(folder: str) -> str:
    lines = [
        "### Do it again", "", "The first does this very run once more and compares every number; the second trains "
        "what `config.yaml` among the artifacts says, with any change.", "", "```sh", f"cnnforge reproduce {folder}",
        "cnnforge train config.yaml optimizer.lr=0.01", "```",
    ]  # fmt: skip
    return "\n".join(lines)
