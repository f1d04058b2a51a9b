"""What there is to tell of a run: read from its folder, and asked of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cnnforge.config import read_run, validate
from cnnforge.data import Dataset, Split, load
from cnnforge.data.labels import class_counts
from cnnforge.errors import CheckpointError, CnnforgeError, ConfigError
from cnnforge.inference.card import keep_card, write_card
from cnnforge.inference.evaluation import Evaluation, evaluate_split, evaluation_of, network_input
from cnnforge.inference.insight import activity_of, filters_of, mistakes_of, seen_of
from cnnforge.model import Model
from cnnforge.report.check import check
from cnnforge.report.facts import RunFacts, Score, Verdict
from cnnforge.report.page import write
from cnnforge.report.table import seconds_text
from cnnforge.spec import RunSpec
from cnnforge.tracking import journal_path, read
from cnnforge.tracking.family import name_of
from cnnforge.train.folder import read_result
from cnnforge.train.shortcuts import shortened
from cnnforge.train.work import Done

#: Samples of training that are asked about where there are no others, and targets that are drawn.
MOST_TRAINED, MOST_DRAWN = 10_000, 2_000
#: How a run that was killed ended.
CUT = "cut off"


@dataclass
class _Told:
    """What the journal says: metrics by name and step, the data set, tags, when it began, how it ended last."""

    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    began: int = 0
    status: str | None = None


def make_report(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Write ``report.html``, ``plots/`` and ``card.md`` of the run in ``folder``, whose data and model are read again.

    Returns them, and what is not in the report, and why. Raises ConfigErrors where the run's config is missing or
    wrong, ConfigError where the files cannot be written.
    """
    facts = overview(folder)
    try:
        return [*write(facts, folder), write_card(folder, _spec(folder))], facts.notes
    except OSError as error:
        raise ConfigError(
            f"the report of {name_of(folder)} cannot be written", where=error.filename or str(folder),
            why=error.strerror or str(error), fix="a run folder that may be written to, with room on its disk",
        ) from None  # fmt: skip


def after(done: Done) -> None:
    """``train.work.After``: make the report and the model card, and let the journal keep them."""
    try:
        for path in write(overview(done.folder, done), done.folder):
            done.journal.artifact(path.relative_to(done.folder))
    finally:  # the card has less to do that can fail
        keep_card(done)


def overview(folder: Path, done: Done | None = None) -> RunFacts:
    """What there is to tell of the run in ``folder``, nothing drawn; whatever is missing is in its notes.

    done: what its process still holds, where this is that process; else the data are read again, the model asked again
    Raises ConfigErrors where the run's config is missing or wrong.
    """
    spec = done.spec if done is not None else _spec(folder)
    told = _told(folder)
    result = dict(done.result) if done is not None else _result(folder)
    status = str(result["status"]) if done is not None else told.status or CUT
    notes: list[str] = []
    if status not in ("finished", "early_stopped"):
        notes.append(f"The run is not finished ({status}): what follows is as far as it came.")
    model = _model(folder, notes)
    data = _data(spec, told, done, notes)
    facts: dict[str, Any] = {}
    if model is not None:
        facts["filters"] = _or_none(notes, "the first filters", lambda: filters_of(spec, model))
        if data is not None:
            facts |= _asked(spec, model, data, done, notes)
    return RunFacts(
        name_of(folder), status, _headline(spec, told, result), _about(spec, told, result), _commands(folder),
        str(check(spec)), spec.model, _epochs(told), _steps(told), _layers(spec, told), **facts,
        seconds=result.get("seconds"), memory=_memory(folder), notes=tuple(notes),
    )  # fmt: skip


def _spec(folder: Path) -> RunSpec:
    config = folder / "config.yaml"
    if config.is_file():
        return validate(read_run(config))
    raise ConfigError(
        f"{folder.name}: its config is not there", where=str(config), why="a run is what its config says",
        fix="put config.yaml back",
    )  # fmt: skip


def _or_none(notes: list[str], what: str, made: Any) -> Any:
    """What ``made()`` gives; None, and a note, where it cannot be had."""
    try:
        return made()
    except CnnforgeError as error:
        notes.append(f"Without {what}: {error.what}.")
        return None


def _told(folder: Path) -> _Told:
    told = _Told()
    for record in read(journal_path(folder))[0]:
        told.began = told.began or record["time"]
        match record["kind"]:
            case "metrics":
                told.status = None
                for name, value in record["values"].items():
                    told.metrics.setdefault(name, {}).setdefault(record["step"], value)
            case "dataset":
                told.data = record
            case "tags":
                told.tags |= record["values"]
            case "end":
                told.status = record["status"]
    return told


def _result(folder: Path) -> dict[str, Any]:
    try:
        result = read_result(folder)
    except (OSError, ValueError):
        return {}  # killed before it was written
    return result if isinstance(result, dict) else {}


def _memory(folder: Path) -> Mapping[str, int] | None:
    try:
        memory: Any = json.loads((folder / "plan.json").read_text("utf-8"))["memory"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return memory if isinstance(memory, dict) else None


def _model(folder: Path, notes: list[str]) -> Model | None:
    """The run's model, on the backend that needs no compiling: what is asked of it here is little."""
    try:
        return Model.load(folder, backend="numpy")
    except CheckpointError as error:
        notes.append(f"Without a model: {error.what}.")
    except CnnforgeError as error:
        notes.append(f"Without a look into the model: {error.what}.")
    return None


def _data(spec: RunSpec, told: _Told, done: Done | None, notes: list[str]) -> Dataset | None:
    data: Dataset | None = (
        done.data
        if done is not None
        else _or_none(notes, "the data", lambda: load(spec.data, spec.model.input, spec.seed))
    )
    if data is None:
        return None
    if told.data and told.data["digest"] != data.digest:
        notes.append("The data are not those that the run was trained with: their digest differs.")
    return shortened(data, spec.trainer, spec.seed)[0]


def _asked(spec: RunSpec, model: Model, data: Dataset, done: Done | None, notes: list[str]) -> dict[str, Any]:
    """What comes of showing the model the test, else validation, else what it has learned from."""
    name, split = _split(data)
    facts: dict[str, Any] = {}
    evaluation = _or_none(notes, "answers", lambda: _evaluation(spec, model, data, name, split, done))
    if evaluation is not None:
        facts["verdict"] = _verdict(evaluation, name, split)
        facts["mistakes"] = mistakes_of(evaluation, split)
    shown, samples = activity_of(model, data.preprocessing, split)
    facts |= {"activity": shown, "activity_samples": samples}
    facts["seen"] = seen_of(model, data.preprocessing, split, data.class_names)
    return facts


def _split(data: Dataset) -> tuple[str, Split]:
    for name, split in (("test", data.test), ("validation", data.validation)):
        if len(split):
            return name, split
    train = data.train
    few = Split(train.x[:MOST_TRAINED], train.y[:MOST_TRAINED])
    return "training (it has learned from these: there are no others)", few


def _evaluation(spec: RunSpec, model: Model, data: Dataset, name: str, split: Split, done: Done | None) -> Evaluation:
    names = data.class_names or tuple(str(i) for i in range(data.classes or 0))
    answers = done.answers if done is not None else None
    if answers is not None and answers.split == name:
        each = np.concatenate(answers.losses)
        return evaluation_of(spec.model, np.concatenate(answers.predictions), split.y, each, names)
    loss = spec.model.effective_loss
    if classes := loss.classes_to_count(spec.model.output):
        loss = loss.measured(class_counts(data.train.y, classes))
    fast = Model(model.spec, precision=model.precision)
    for tensors, mine in ((fast.params, model.params), (fast.state, model.state)):
        tensors.update(mine)
    return evaluate_split(fast, network_input(data.preprocessing, split.x), split.y, loss=loss, names=names)


def _verdict(evaluation: Evaluation, name: str, split: Split) -> Verdict:
    summary = {"loss": f"{evaluation.loss:.4g}"}
    if evaluation.accuracy is not None:
        summary = {"accuracy": f"{evaluation.accuracy:.2%}", "macro F1": f"{evaluation.macro_f1:.2%}"} | summary
    columns: tuple[str, ...] = ("precision", "recall", "F1")
    scores = tuple(Score(s.name, (s.precision, s.recall, s.f1), s.support) for s in evaluation.per_class)
    outputs = targets = yes = None
    if evaluation.task == "numbers":
        columns = ("bias", "mean absolute error", "root mean square", "R²")
        scores = tuple(Score(e.name, (e.bias, e.mean_absolute, e.root_mean_square, e.r2)) for e in evaluation.errors)
        rows = slice(None, None, max(1, len(evaluation.labels) // MOST_DRAWN))
        outputs, targets = (a[rows].astype(np.float64) for a in (evaluation.probabilities, evaluation.labels))
    elif evaluation.task == "classes" and len(evaluation.names) == 2:
        yes = evaluation.probabilities[:, 1].astype(np.float64), evaluation.labels
    return Verdict(
        name, len(split), summary, evaluation.names, columns, scores, evaluation.confusion, outputs, targets, yes
    )


def _epochs(told: _Told) -> dict[str, Sequence[tuple[int, float]]]:
    names = [n for n in told.metrics if n.endswith(("_loss", "_accuracy")) and "/" not in n]
    return {name: _points(told.metrics[name]) for name in names}


def _steps(told: _Told) -> dict[str, Sequence[tuple[int, float]]]:
    return {
        name.removeprefix("step/"): _points(values) for name, values in told.metrics.items() if name.startswith("step/")
    }


def _layers(spec: RunSpec, told: _Told) -> dict[str, dict[str, Sequence[tuple[int, float]]]]:
    """``layer/conv1.w/grad_norm`` by kind and layer, in the order of the net."""
    order = {row.name: i for i, row in enumerate(spec.model.table)}
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name, values in told.metrics.items():
        if name.startswith("layer/"):
            layer, _, kind = name.removeprefix("layer/").rpartition("/")
            found.setdefault(kind, {})[layer] = values

    def place(layer: str) -> int:
        return order.get(layer, order.get(layer.rpartition(".")[0], len(order)))

    return {kind: {layer: _points(lines[layer]) for layer in sorted(lines, key=place)} for kind, lines in found.items()}


def _points(values: Mapping[int, float]) -> Sequence[tuple[int, float]]:
    """Finite ones, in the order of their steps."""
    return [(step, values[step]) for step in sorted(values) if np.isfinite(values[step])]


def _headline(spec: RunSpec, told: _Told, result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    rows = []
    for part, word in (("test", "test"), ("val", "validation"), ("train", "training")):
        for kind in ("accuracy", "loss"):
            name = f"{part}_{kind}"
            value = result.get(f"best_{name}", result.get(name))
            if value is None and name in told.metrics:
                value = told.metrics[name][max(told.metrics[name])]
            if isinstance(value, float):
                rows.append((f"{word} {kind}", f"{value:.2%}" if kind == "accuracy" else f"{value:.4g}"))
    rows = [r for r in rows if r[0].endswith("accuracy")] or rows
    epochs = result.get("epochs", max((max(v) for n, v in told.metrics.items() if n == "train_loss"), default=0))
    rows.append(("epochs", f"{epochs} of {spec.trainer.epochs}"))
    if "wall_seconds" in result:
        rows.append(("time", seconds_text(result["wall_seconds"])))
    if "samples_per_second" in result:
        rows.append(("samples per second", f"{result['samples_per_second']:,.0f}"))
    return tuple(rows)


def _about(spec: RunSpec, told: _Told, result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    table, trainer = spec.model.table, spec.trainer
    params, macs = sum(row.param_count for row in table), sum(row.macs for row in table)
    shape = "x".join(map(str, spec.model.input))
    rows = [("model", f"{spec.model.name}: input {shape}, {params:,} parameters, {macs:,} MACs")]
    if told.data:
        counts = ", ".join(f"{n:,} {split}" for split, n in told.data["splits"].items())
        rows.append(("data", f"{told.data['name']}: {counts} ({told.data['source']})"))
    schedule = "" if spec.schedule.type == "constant" else f", {spec.schedule.type} schedule"
    rows += [
        ("training", f"{spec.optimizer.type}, learning rate {spec.optimizer.lr:g}{schedule}, batches of "
                     f"{trainer.batch_size}, seed {spec.seed}"),
        ("loss", spec.model.effective_loss.type),
    ]  # fmt: skip
    if "best_step" in result:
        rows.append(("best", f"step {result['best_step']:,} of {result.get('steps', 0):,}, by validation"))
    tags = told.tags
    if tags:
        versions = f"cnnforge {tags.get('cnnforge.version', '?')}, NumPy {tags.get('numpy.version', '?')}, "
        versions += f"Python {tags.get('python.version', '?')}, {tags.get('platform', '?')}"
        rows += [("computed by", f"{tags.get('backend', '?')}, {trainer.precision}"), ("with", versions)]
        if commit := tags.get("git.commit"):
            rows.append(("git commit", commit))
    if told.began:
        rows.append(("begun", f"{datetime.fromtimestamp(told.began / 1000, UTC):%Y-%m-%d %H:%M} UTC"))
    return tuple(rows)


def _commands(folder: Path) -> tuple[tuple[str, str], ...]:
    name, config = name_of(folder), folder.resolve() / "config.yaml"
    here = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    return (
        (f"cnnforge reproduce {name}", "does the run again from its own record and compares every number"),
        (f"cnnforge train {here}", "trains anew from the same config"),
        (f"cnnforge report {name}", "makes this page again"),
    )
