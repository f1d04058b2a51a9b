"""What a run's folder says of the run: enough to go on with it, and to do it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnforge.config import read_run, validate
from cnnforge.errors import ConfigError, ConfigErrors
from cnnforge.spec import RunSpec
from cnnforge.tracking import flatten, journal_path, read

#: What may change between the lives of a run without a question: it changes no number.
FREE = ("tracking.", "run.", "trainer.keep", "trainer.checkpoint_every", "trainer.report")
#: Metrics that measure the machine: no two runs have the same.
TIMINGS = ("samples_per_second", "data_wait")
#: The event that says that the config was changed on purpose, and the word for a key that is not there.
CHANGED, NOTHING = "changed", "nothing"
#: A run that ended like this has nothing left to do.
OVER = ("finished", "early_stopped")
#: A sweep's run that ended like this is not taken up again by the sweep.
ENDED = (*OVER, "pruned")


@dataclass(frozen=True)
class RunRecord:
    """What was written down of a run.

    spec:    what its ``config.yaml`` says, with the changes asked for
    described: did it get as far as writing its parameters down?
    changes: what of the config is not what it was: key, then, now
    changed: has the config been changed on purpose before?
    ways:    by what its kernel calls were computed
    digest:  of its data
    ranks:   processes that its last life had
    metrics: every number recorded so far, by (name, step)
    status:  how its last life ended; None where it was killed
    """

    folder: Path
    spec: RunSpec
    described: bool = False
    changes: tuple[tuple[str, str, str], ...] = ()
    changed: bool = False
    ways: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    ranks: int = 1
    metrics: Mapping[tuple[str, int], float] = field(default_factory=dict)
    status: str | None = None


def read_record(folder: Path, overrides: Sequence[str] = ()) -> RunRecord:
    """The record of the run in ``folder``, which has a journal.

    overrides: changes of its config. Raises ConfigErrors where config.yaml is missing or wrong.
    """
    config = folder / "config.yaml"
    if not config.is_file():
        raise ConfigErrors(
            [
                ConfigError(
                    f"{folder.name}: its config is not there", where=str(config), why="a run is what its config says",
                    fix="put config.yaml back, or train anew",
                )
            ]
        )  # fmt: skip
    spec = validate(read_run(config, overrides))
    params: dict[str, str] = {}
    changed, digest, status = False, None, None
    metrics: dict[tuple[str, int], float] = {}
    for record in read(journal_path(folder))[0]:
        match record["kind"]:
            case "params":
                params = params or record["values"]
            case "event" if record["name"] == CHANGED:
                changed = True
                params |= record["data"]["now"]
                params = {key: value for key, value in params.items() if value != NOTHING}
            case "dataset":
                digest = digest or record["digest"]
            case "metrics":
                status = None
                for name, value in record["values"].items():
                    metrics.setdefault((name, record["step"]), value)
            case "end":
                status = record["status"]
    plan = _plan(folder)
    ways, ranks = plan.get("ways"), plan.get("ranks", 1)
    return RunRecord(
        folder, spec, bool(params), _changes(params, spec), changed, ways if isinstance(ways, dict) else {}, digest,
        ranks if isinstance(ranks, int) else 1, metrics, status,
    )  # fmt: skip


def _changes(params: Mapping[str, str], spec: RunSpec) -> tuple[tuple[str, str, str], ...]:
    if not params:  # killed before it could say what it is
        return ()
    now = flatten(spec.model_dump(mode="json", exclude_none=True))
    keys = [key for key in dict.fromkeys((*params, *now)) if not key.startswith(FREE)]
    return tuple(
        (key, params.get(key, NOTHING), now.get(key, NOTHING)) for key in keys if params.get(key) != now.get(key)
    )


def _plan(folder: Path) -> Mapping[str, Any]:
    try:
        plan: Any = json.loads((folder / "plan.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # killed before it was written, so nothing was computed yet
    return plan if isinstance(plan, dict) else {}


def is_timing(name: str) -> bool:
    """Does a metric of this name measure the machine and not the training?"""
    return name.rpartition("/")[2] in TIMINGS
