"""From the journal to MLflow: what was sent is noted, what fails is tried again, what never works is named."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cnnforge.tracking.entries import NOTE_TAG, Batch, event_tag, note, param_value, safe_name, said_params
from cnnforge.tracking.family import trial_of
from cnnforge.tracking.journal import Record, journal_path, scan
from cnnforge.tracking.mlflow import Store, Wanted, open_run, said
from cnnforge.tracking.state import Settings, Tracking, address, load, restated, save, shown, state_path

log = logging.getLogger("cnnforge.tracking")

MLFLOW_STATUS = {
    "finished": "FINISHED",
    "early_stopped": "FINISHED",
    "pruned": "FINISHED",  # on purpose; our tag cnnforge.status tells it from the others
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
}
CHUNK = 1 << 18  # bytes of journal per round
TRIES = 3  # for a record that fails while the tracker answers; then it is left out, so that the others get through


class UnsendableError(Exception):
    """What a record asks for cannot be sent, now or later."""


class SweepNotSentError(Exception):
    """The run is a trial of a sweep that has no run in MLflow yet: it would have nothing to be nested under."""


class Delivery:
    """Sends one run's journal and keeps ``tracking.json`` up to date; the caller holds the run's sending lock."""

    def __init__(self, run_dir: Path, settings: Settings) -> None:
        self.run_dir = run_dir
        self.journal = journal_path(run_dir)
        self._before = load(run_dir)
        self._trial = trial_of(run_dir)
        self.state = restated(self._before, settings, self._sweep())
        if settings.follow:  # settings are new at once; where the run went stays true until the new place answers
            self._before = replace(
                self._before, uri=self.state.uri, experiment=self.state.experiment, run_name=self.state.run_name
            )
        self._reached = False
        self._store: Store | None = None
        self._tries: dict[str, int] = {}
        self.doubtful = False  # a record failed although the tracker answers: worth another try at once

    @property
    def address(self) -> str:
        """Where the records go."""
        return address(self.state.store or "", self.run_dir)

    def send(self) -> None:
        """Sends every whole record that is there. Raises whatever MLflow raises; what was sent stays noted."""
        self.doubtful = False
        if self.journal.exists() and self.journal.stat().st_size < self.state.offset:
            self._keep(offset=0)  # not the journal it was: send all of it
        if not scan(self.journal, self.state.offset, limit=1):
            return
        store = self._open()  # may set the offset back
        while found := scan(self.journal, self.state.offset, CHUNK):
            batch = Batch(store.params)
            for record, after in found:
                if self.state.status != "RUNNING" and record["kind"] not in ("end", "register"):
                    store.resume()
                    self._keep(status="RUNNING")
                if self._add(record, batch, store):
                    continue
                self._flush(batch, store)
                self._act(record, store)
                self._keep(offset=after)
            self._flush(batch, store)
            self._keep(offset=found[-1][1], error="")

    def close(self) -> None:
        """Nobody writes this journal any more: a run that never said how it ended was killed."""
        if self.state.mlflow_run_id is not None and self.state.status == "RUNNING":
            self._open().end("KILLED", "killed", int(self.journal.stat().st_mtime * 1000))
            self._keep(status="KILLED", error="")

    def failed(self, reason: str) -> None:
        """Notes why an attempt failed and drops the connection, so that the next one starts afresh."""
        log.warning("not sent to %s: %s", shown(self.address), reason)
        self._store = None
        self.state = replace(self.state, error=reason)
        try:
            save(self.run_dir, self.state if self._reached else replace(self._before, error=reason))
        except OSError as full:  # the note is a courtesy; the records are safe in the journal
            log.warning("tracking.json: %s", full)

    def _keep(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        if self._reached:
            save(self.run_dir, self.state)

    def _open(self) -> Store:
        if self._store is None:
            first = scan(self.journal, 0, limit=1)[0][0]
            given = str(first.get("id", ""))
            fresh = given if re.fullmatch(r"[0-9a-f]{32}", given) else os.urandom(16).hex()
            state = self.state = replace(self.state, run=self.state.run or fresh)
            name = state.run_name or (self._trial.name if self._trial is not None else self.run_dir.name)
            parent, tags = self._place()
            began = first["time"] or None
            store = open_run(
                self.address,
                Wanted(state.run, state.mlflow_run_id, state.experiment, name, began, self.run_dir, parent, tags),
            )
            self._store, self._reached = store, True
            offset = state.offset if store.run_id == state.mlflow_run_id else 0
            self._keep(mlflow_run_id=store.run_id, status=store.status, offset=offset, error="")
        return self._store

    def _sweep(self) -> Tracking | None:
        """What is known of the sweep that this run is a trial of; ``None`` where there is none that is sent."""
        if self._trial is None or not journal_path(self._trial.sweep).is_file():
            return None
        return load(self._trial.sweep) if state_path(self._trial.sweep).exists() else None

    def _place(self) -> tuple[str | None, dict[str, str]]:
        """MLflow's id of the sweep's run, and the tags of a trial. Raises ``SweepNotSentError``."""
        if self._trial is None:
            return None, {}
        tags = {"cnnforge.sweep": self._trial.sweep.name, "cnnforge.trial": str(self._trial.number)}
        if self._trial.replica:
            tags["cnnforge.replica"] = self._trial.replica
        sweep = self._sweep()
        if sweep is None:
            return None, tags
        if sweep.mlflow_run_id is None or sweep.store != self.state.store:
            raise SweepNotSentError(f"its sweep {self._trial.sweep.name} was not sent there yet")
        return sweep.mlflow_run_id, tags

    def _flush(self, batch: Batch, store: Store) -> None:
        for reason in store.log(batch):
            self._refuse(reason)

    def _add(self, record: Record, batch: Batch, store: Store) -> bool:
        """Puts what goes by batch into the batch; False for a record that needs a call of its own."""
        match record["kind"]:
            case "metrics":
                batch.metrics(record["values"], record["step"], record["time"])
            case "params":
                for name, value in said_params(record):
                    short = param_value(name, str(value))
                    if short != value:
                        path = f"params/{safe_name(name)}.txt"
                        self._attempt(path, store, partial(store.text, value, path))
                    batch.param(name, short)
            case "tags":
                for name, value in record["values"].items():
                    text = str(value)
                    batch.tag(name, note(text, store.run_id) if name == NOTE_TAG else text)
            case "event":
                batch.tag(*event_tag(record))
            case "artifact" | "dataset" | "model" | "register" | "end":
                return False
            case "run":
                pass  # read when the store was opened
            case kind:
                self._refuse(f"journal record of kind {kind!r}: {record.get('text', '')}")
        return True

    def _act(self, record: Record, store: Store) -> None:
        what = f"record {record['seq']}, {record['kind']} {record.get('path', '')}"
        match record["kind"]:
            case "artifact":
                self._attempt(what, store, lambda: store.artifact(self._inside(record["path"]), record["path"]))
            case "model":
                self._attempt(what, store, lambda: store.model(self._inside(record["path"]), record))
            case "register":
                self._attempt(what, store, lambda: self._register(record["name"], store))
            case "dataset":
                self._attempt(what, store, lambda: store.dataset(record))
            case "end":
                status = MLFLOW_STATUS.get(record["status"], "KILLED")
                store.end(status, record["status"], record["time"])
                self._keep(status=status)

    def _register(self, name: str, store: Store) -> None:
        if not store.register(name):
            raise UnsendableError("the run has no model in MLflow")

    def _attempt(self, what: str, store: Store, call: Callable[[], None]) -> None:
        """Makes a call that one record alone needs; a record at fault does not hold up the others for ever."""
        try:
            call()
        except Exception as error:
            if store.is_busy(error):
                raise
            store.check_alive()  # raises if it is not the record's fault
            self._tries[what] = self._tries.get(what, 0) + 1
            hopeless = isinstance(error, UnsendableError) or store.refuses(error)
            if not hopeless and self._tries[what] < TRIES:
                self.doubtful = True
                raise
            self._refuse(f"{what}: {said(error)}")

    def _refuse(self, text: str) -> None:
        log.warning("left out, and not tried again: %s", text)
        self._keep(refused=self.state.refused + 1)

    def _inside(self, path: str) -> Path:
        """The journal may be a stranger's: nothing outside the run folder is read for it."""
        full = (self.run_dir / path).resolve()
        if not full.is_relative_to(self.run_dir.resolve()):
            raise UnsendableError("lies outside the run folder")
        if not full.exists():
            raise UnsendableError("is not there")
        if not full.is_file() and not full.is_dir():
            raise UnsendableError("is neither a file nor a folder")  # reading a pipe would wait for ever
        return full
