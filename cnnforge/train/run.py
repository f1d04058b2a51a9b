"""One whole run in its folder, from its first life to its last: work, and a record of it all.

The folder exists, with its resolved ``config.yaml``, before data or tracker are touched; the journal gets every number
as it appears; ``result.json`` says how it ended, whatever happened.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from cnnforge.backends.base import Backend
from cnnforge.config import run_text
from cnnforge.errors import (
    BackendError,
    CnnforgeError,
    ConfigError,
    ConfigErrors,
    DivergedError,
    InterruptedRun,
    PrunedRun,
)
from cnnforge.spec import RunSpec
from cnnforge.tracking import Journal, Outcome, Sender, announce, flatten, start
from cnnforge.train.checkpoint import Checkpoints
from cnnforge.train.folder import new_folder, point_latest, write_json, write_text
from cnnforge.train.follow import Orders
from cnnforge.train.ranks import ALONE, Ranks
from cnnforge.train.record import CHANGED, OVER, RunRecord, read_record
from cnnforge.train.setup import backend_of
from cnnforge.train.signals import StopRequest
from cnnforge.train.transfer import settle
from cnnforge.train.work import After, Console, Done, Guest, Life, Result, work


def run(
    spec: RunSpec,
    console: Console,
    ways: Mapping[str, str] | None = None,
    folder: Path | None = None,
    *,
    guest: Guest | None = None,
    ranks: Ranks = ALONE,
    after: After | None = None,
) -> tuple[Path, Result]:
    """Train as ``spec`` says. Returns (run folder, what ``result.json`` holds).

    ways: by what kernel calls are to be computed, of another run's record
    folder: an empty one that is there, instead of a new one, which ``latest`` then points at
    guest: of whom it is a part, where it is one
    ranks: the processes that train it together; this is the first of them, the others ``follow``
    after: is called when the work is done and the journal still open; what it raises is a note and no failure
    Raises the CnnforgeError that ended it, after everything has been written down.
    """
    spec = settle(spec)
    backend = backend_of(spec, ranks)
    if folder is None:
        folder = new_folder(Path(spec.run.dir), spec.run.name or f"{spec.model.name}-{spec.data.type}")
        point_latest(folder)
    _write_config(folder, spec)
    record = RunRecord(folder, spec, ways=ways) if ways else None
    return _live(spec, folder, backend, console, record, guest, ranks, after)


def resume(
    folder: Path,
    overrides: Sequence[str],
    console: Console,
    *,
    changed: bool = False,
    guest: Guest | None = None,
    ranks: Ranks = ALONE,
    after: After | None = None,
) -> tuple[Path, Result]:
    """Go on with the run in ``folder`` from its last checkpoint, or from its beginning where it has none.

    overrides: changes of its config;  changed: go on although its config or its data are not what they were
    ranks, after: as in ``run``; the processes need not be as many as before
    Raises ConfigErrors where there is nothing to go on with, and for every change that was not asked for; else as
    ``run``.
    """
    record = read_record(folder, overrides)
    _may_go_on(record, changed)
    backend = backend_of(record.spec, ranks)
    if guest is None:
        point_latest(folder)
    if record.changes:
        _write_config(folder, record.spec)
        for key, then, now in record.changes:
            console.note(f"changed: {key} was {then}, is {now}")
    record = replace(record, digest=None) if changed else record
    return _live(record.spec, folder, backend, console, record, guest, ranks, after)


def _may_go_on(record: RunRecord, changed: bool) -> None:
    name = record.folder.name
    if record.status in OVER and not changed:
        raise ConfigError(
            f"{name} has {'finished' if record.status == 'finished' else 'stopped early'}: there is nothing to resume",
            where=str(record.folder),
            why="every step that its config asks for is done",
            fix=f"to train longer: cnnforge resume {name} trainer.epochs={2 * record.spec.trainer.epochs} --changed",
        )
    if record.changes and not changed:
        raise ConfigErrors(
            [
                ConfigError(
                    f"{key} is {now}, and was {then} when the run began",
                    where=f"{record.folder / 'config.yaml'} ({key})",
                    why="a resumed run continues bit for bit, which it cannot with another config",
                    fix="put it back, or add --changed to go on with it",
                )
                for key, then, now in record.changes
            ]
        )


def _write_config(folder: Path, spec: RunSpec) -> None:
    write_text(folder / "config.yaml", run_text(spec))


def _live(
    spec: RunSpec,
    folder: Path,
    backend: Backend,
    console: Console,
    record: RunRecord | None,
    guest: Guest | None,
    ranks: Ranks,
    after: After | None,
) -> tuple[Path, Result]:
    """A run's life, its first or, with the record of those before, a later one."""
    began = perf_counter()
    ranks.first(Orders(spec, record.ways if record else {}))
    with Journal(folder) as journal, StopRequest() as stop:
        sender = _sender(spec, folder, guest)
        checkpoints = Checkpoints(folder / "checkpoints", spec.trainer.keep)
        state = Life(spec, folder, journal, console, stop, checkpoints, backend, record, ranks, guest=guest)
        state.wanted = after is not None and spec.trainer.report and not spec.trainer.fast_dev_run
        status, failure = "failed", None
        try:
            _describe(state)
            work(state)
            status = "early_stopped" if state.stopped_early else "finished"
        except (CnnforgeError, KeyboardInterrupt) as error:
            failure = error if isinstance(error, CnnforgeError) else InterruptedRun("interrupted", why="Ctrl-C, twice")
            status = _status_of(failure)
        finally:
            console.end()
            state.result = Result(status=status) | state.result
            state.result["wall_seconds"] = round(perf_counter() - began, 3)
            state.result["peak_memory_bytes"] = peak_memory()
            state.result["seconds"] = state.spent.rounded()
            if after is not None and state.wanted and status in OVER:
                _let(after, state)
            outcome = _close(state, sender)
    if outcome is not None and outcome.pending:
        console.note(f"tracking: {outcome.reason}")
    if failure is not None:
        failure.where = failure.where or str(folder)
        resuming = f"cnnforge resume {os.path.relpath(folder)} goes on"
        if isinstance(failure, InterruptedRun):
            failure.fix = f"{resuming} where it stopped"
        elif isinstance(failure, BackendError) and checkpoints.has("last"):
            failure.fix += f"; {resuming} from the last checkpoint"
        raise failure
    return folder, state.result


def _let(after: After, run: Life) -> None:
    """Give the finished work to ``after``, which cannot harm it any more."""
    assert run.data is not None
    write_json(run.folder / "result.json", run.result)  # what came out is safe, whatever happens now
    done = Done(run.folder, run.spec, run.data, run.loss, run.answers, dict(run.result), run.journal, run.console.note)
    try:
        with run.spent.on("report"):
            after(done)
    except (Exception, KeyboardInterrupt) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        run.console.note(f"the report was not made: {why}; cnnforge report {os.path.relpath(run.folder)} tries again")
    run.result["seconds"] = run.spent.rounded()


def _sender(spec: RunSpec, folder: Path, guest: Guest | None) -> Sender | None:
    """What sends the run's numbers to the tracker; None where there is none, and where another does it."""
    tracking = spec.tracking
    if not tracking.enabled or spec.trainer.fast_dev_run:
        return None
    experiment = tracking.experiment or ""
    if guest is None:
        return start(folder, uri=tracking.uri, experiment=experiment, run_name=folder.name)
    announce(folder, uri=tracking.uri, experiment=experiment, run_name="")
    return None


def _describe(run: Life) -> None:
    """What is known before the work starts: parameters, versions, the commit of the working directory.

    MLflow's parameters never change: what changed in a later life is a tag.
    """
    if run.record is None or not run.record.described:
        run.journal.params(run.spec.model_dump(mode="json", exclude_none=True), _unsaid(run))
    elif run.record.changes:
        run.journal.event(CHANGED, now={key: now for key, _, now in run.record.changes})
    tags = {
        "cnnforge.version": version("cnnforge"),
        "numpy.version": version("numpy"),
        "python.version": platform.python_version(),
        "platform": platform.platform(),
        "backend": run.spec.trainer.backend,
        "precision": run.spec.trainer.precision,
        "model": run.spec.model.name,
        "data": run.spec.data.type,
        "optimizer": run.spec.optimizer.type,
        "params": str(sum(row.param_count for row in run.spec.model.table)),
    }
    if run.ranks.size > 1:
        tags["ranks"] = str(run.ranks.size)
    if commit := git_commit():
        tags["git.commit"] = commit
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")  # what its pages show and link
    run.journal.tags(tags)
    run.journal.artifact("config.yaml")


def _unsaid(run: Life) -> list[str]:
    """Parameters that make a comparison no clearer: the run's own places, and what its layers have by default.

    A sweep's trials tell the latter too: where one is varied every trial has to have it.
    """
    plain = run.spec.model_dump(mode="json", exclude_none=True)
    names = [name for name in flatten(plain) if name.startswith(("run.", "tracking."))]
    if run.guest is None:
        said = flatten(run.spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True, include={"model"}))
        names += [name for name in flatten(plain) if name.startswith("model.layers.") and name not in said]
    return names


def _status_of(failure: CnnforgeError) -> str:
    if isinstance(failure, InterruptedRun):
        return "pruned" if isinstance(failure, PrunedRun) else "interrupted"
    return "diverged" if isinstance(failure, DivergedError) else "failed"


def _close(run: Life, sender: Sender | None) -> Outcome | None:
    """Write the result, end the journal, and give the tracker its bounded time."""
    path = run.folder / "result.json"
    write_json(path, run.result)
    run.journal.artifact("result.json")
    run.journal.end(run.result["status"])
    if sender is None:
        return None
    if (name := run.spec.tracking.register_as) is not None and run.result["status"] in OVER:
        run.journal.register(name)
    outcome = sender.finish()
    run.result["mlflow_run_id"] = outcome.run_id
    write_json(path, run.result)
    return outcome


def git_commit() -> str | None:
    """The commit checked out in the working directory, with ``-dirty`` where files differ from it; None without git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def peak_memory() -> int | None:
    """The most resident memory this process has had, in bytes; None on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
