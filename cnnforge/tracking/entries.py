"""Journal records in MLflow's terms: its names, its limits, its batches. No MLflow here, only its rules."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from cnnforge.tracking.journal import Record

PARAM_LENGTH = 6000
TAG_LENGTH = 8000
NAME_LENGTH = 250
DIGEST_LENGTH = 36
#: The tag that MLflow shows as a run's description, in Markdown.
NOTE_TAG = "mlflow.note.content"
#: A view of an experiment's table of runs that a link can name (``viewStateShareKey=VIEW``): the tag that keeps it, and
#: its columns as MLflow's pages call them. Left to itself the table shows no number at all.
VIEW = "cnnforge"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
COLUMNS = (
    "attributes.`Duration`", "metrics.`test_accuracy`", "metrics.`best_val_accuracy`", "metrics.`train_loss`",
    "metrics.`val_loss`", "params.`model.name`", "params.`data.type`", "params.`optimizer.type`",
    "params.`optimizer.lr`", "params.`trainer.epochs`", "tags.`params`",
)  # fmt: skip
#: A link that leads to a file of the run folder, in Markdown.
_LINK = re.compile(r"\]\((?![a-z]+:|[/#])([^()\s]+)\)")
#: Per ``log_batch`` call MLflow takes 1000 metrics, 100 params and 100 tags, and no more than 1000 of all together.
METRICS, PARAMS, TAGS = 800, 100, 100

Entity = Callable[..., Any]


class Batch:
    """What will go into the next ``log_batch`` calls.

    known: the params that MLflow has; they cannot be changed there, so a new value becomes a tag.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._metrics: list[tuple[str, float, int, int]] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}

    def metrics(self, values: Mapping[str, float], step: int, time: int) -> None:
        """time: ms since the epoch."""
        for name, value in values.items():
            name = safe_name(name)
            self._metrics.append((name, value, time, step))
            if not math.isfinite(value):
                shown = "" if math.isnan(value) else ", drawn as 1.797e308"  # MLflow's stand-in for infinity
                self.tag(f"not_finite.{name}", f"{value} at step {step}{shown}")

    def param(self, name: str, value: str) -> None:
        """Once sent, a param stays; a changed one is told by the tag ``param_changed.NAME``."""
        name = safe_name(name)
        first = self._known.get(name, self._params.get(name))
        if first is None:
            self._params[name] = value
        elif first != value:
            self.tag(f"param_changed.{name}", value)

    def tag(self, name: str, value: str) -> None:
        """A later value of the same name wins."""
        self._tags[safe_name(name)] = cut(value, TAG_LENGTH, "whole in journal.jsonl")

    @property
    def params(self) -> Mapping[str, str]:
        """The params of this batch."""
        return self._params

    def clear(self) -> None:
        """Forgets what was sent."""
        self._metrics, self._params, self._tags = [], {}, {}

    def calls(self, metric: Entity, param: Entity, tag: Entity) -> Iterator[tuple[list[Any], list[Any], list[Any]]]:
        """The arguments of each ``log_batch`` call, made with MLflow's own classes."""
        params, tags = list(self._params.items()), list(self._tags.items())
        rounds = max(
            math.ceil(len(self._metrics) / METRICS), math.ceil(len(params) / PARAMS), math.ceil(len(tags) / TAGS)
        )
        for i in range(rounds):
            yield (
                [metric(*one) for one in self._metrics[i * METRICS : (i + 1) * METRICS]],
                [param(*one) for one in params[i * PARAMS : (i + 1) * PARAMS]],
                [tag(*one) for one in tags[i * TAGS : (i + 1) * TAGS]],
            )


def safe_name(name: str) -> str:
    """A name that MLflow takes: other characters than letters, digits and ``_-./: `` become ``_``."""
    safe = re.sub(r"[^\w\-./: ]", "_", name) or "_"
    if posixpath.normpath(safe) != safe or safe.startswith(("/", "..")) or safe == ".":
        safe = safe.replace("/", "_").replace("..", "__").strip(".") or "_"  # it would not be a plain path
    if len(safe) > NAME_LENGTH:
        safe = f"{safe[: NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return safe


def said_params(record: Record) -> Iterator[tuple[str, Any]]:
    """The params of a record that MLflow shall have."""
    unsaid = record.get("unsaid")
    hidden = {str(name) for name in unsaid} if isinstance(unsaid, list) else set()
    return ((name, value) for name, value in record["values"].items() if name not in hidden)


def note(text: str, run_id: str) -> str:
    """A description as MLflow's pages need it: links to files of the run folder lead to its artifacts, ``runs:/RUN_ID``
    names the run.
    """
    where = f"get-artifact?run_uuid={run_id}&path="
    return _LINK.sub(lambda link: f"]({where}{quote(link[1])})", text.replace("runs:/RUN_ID/", f"runs:/{run_id}/"))


def param_value(name: str, value: str) -> str:
    """The value, cut visibly where MLflow would cut it silently."""
    return cut(value, PARAM_LENGTH, f"whole in artifact params/{safe_name(name)}.txt")


def cut(value: str, length: int, where: str) -> str:
    """At most ``length`` characters; what is cut says so and where the rest is."""
    if len(value) <= length:
        return value
    note = f" [cut: {len(value):,} characters, {where}]"
    return value[: length - len(note)] + note


def event_tag(record: Record) -> tuple[str, str]:
    """An event as a tag: the latest of each name."""
    return f"event.{record['name']}", json.dumps(record["data"], ensure_ascii=False)


def dataset_entry(record: Record, entities: Any) -> Any:
    """A ``DatasetInput``. entities: the module ``mlflow.entities``."""
    source, digest = str(record["source"]), str(record["digest"])
    web = source.startswith(("http://", "https://"))
    profile = {"splits": record["splits"], "classes": record["classes"], "digest": digest}
    tensor = {"dtype": "float32", "shape": [-1, *record["shape"]]}
    dataset = entities.Dataset(
        name=record["name"],
        digest=digest[:DIGEST_LENGTH],  # MLflow takes no longer one; the profile has it whole
        source_type="http" if web else "local",
        source=json.dumps({"url" if web else "uri": source}),
        schema=json.dumps({"mlflow_tensorspec": {"features": [{"type": "tensor", "tensor-spec": tensor}]}}),
        profile=json.dumps(profile),
    )
    context = entities.InputTag(key="mlflow.data.context", value=", ".join(record["splits"])[:500])
    return entities.DatasetInput(dataset=dataset, tags=[context])
