"""The only door to MLflow; imported by the sender process alone (``__main__.py``).

Every call here may be made twice without harm: the run is found again by our tag, metrics carry the journal's times
(MLflow drops an equal key, step, time and value), params and tags overwrite themselves, a model is found again by its
name. So a kill at any moment costs repetition only.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnforge.tracking.database import artifacts_uri, prepared
from cnnforge.tracking.entries import COLUMNS, NOTE_TAG, VIEW_TAG, Batch, dataset_entry
from cnnforge.tracking.journal import Record
from cnnforge.tracking.state import DEFAULT_EXPERIMENT, local_database

RUN_TAG = "cnnforge.run_id"
PARENT_TAG = "mlflow.parentRunId"
MODEL_NAME = "model"
#: The run's numbers that are of the model it logs.
MODEL_METRICS = ("test_accuracy", "test_loss")

#: Set before MLflow is imported. Those in the second group yield to what the user has set.
FORCED = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or the requirements of whatever project we stand in would be logged
    "MLFLOW_LOG_UV_FILES": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
}
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # our own pauses take their place; MLflow's block for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


#: What an experiment that we make is: its pages then begin with runs, not with traces of language models.
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    NOTE_TAG: "Networks trained by cnnforge. A parameter has the name by which a config or the command line sets it.",
    VIEW_TAG: json.dumps({"selectedColumns": list(COLUMNS)}),
}


class UnreachableError(Exception):
    """The tracker did not answer at all."""


class RunDeletedError(Exception):
    """Someone deleted the run, or its sweep's, in MLflow; sending it again would bring it back against their will."""


@dataclass(frozen=True)
class Wanted:
    """The run to find, or to make where there is none.

    ours: our id, kept as a tag; known: MLflow's id, if there was one; experiment: empty when it is not known any
    more; started: ms since the epoch, ``None``: now; parent: MLflow's id of the run to nest it under; tags: more
    that the run bears from its start
    """

    ours: str
    known: str | None
    experiment: str
    name: str
    started: int | None
    run_dir: Path
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Store:
    """An open MLflow store and the one run in it that is being fed.

    status: MLflow's word when it was opened; params: what MLflow has already, for they cannot be changed there
    """

    api: Any
    client: Any
    experiment_id: str
    run_id: str
    status: str
    params: dict[str, str] = field(default_factory=dict)

    def log(self, batch: Batch) -> list[str]:
        """Sends the batch and empties it; returns why MLflow refused entries, one line for each."""
        refused: list[str] = []
        entities = self.api.entities
        for metrics, params, tags in batch.calls(entities.Metric, entities.Param, entities.RunTag):
            if self._log_batch(metrics, params, tags) is None:
                continue
            # MLflow refuses a batch whole: find the entries at fault and send the others.
            self.check_alive()
            singles = [([one], [], []) for one in metrics] + [([], [one], []) for one in params]
            for single in [*singles, *(([], [], [one]) for one in tags)]:
                why = self._log_batch(*single)
                refused += [] if why is None else [why]
        self.params.update(batch.params)
        batch.clear()
        return refused

    def _log_batch(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> str | None:
        try:
            self.client.log_batch(self.run_id, metrics=metrics, params=params, tags=tags)
        except self.api.exceptions.MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            return said(error)
        return None

    def text(self, text: str, path: str) -> None:
        """Keeps a text as an artifact."""
        self.client.log_text(self.run_id, text, path)

    def artifact(self, source: Path, name: str) -> None:
        """Keeps a file or a folder under the path that it has in the run folder."""
        if source.is_dir():
            self.client.log_artifacts(self.run_id, str(source), name)
        else:
            parent = Path(name).parent.as_posix()
            self.client.log_artifact(self.run_id, str(source), None if parent == "." else parent)

    def dataset(self, record: Record) -> None:
        """Notes the data that the run was trained on."""
        self.client.log_inputs(self.run_id, datasets=[dataset_entry(record, self.api.entities)])

    def model(self, source: Path, record: Record) -> None:
        """Logs a saved model: its folder and the name of the module that opens it; no pickle, nothing inferred.

        One model per run: a later one replaces it.
        """
        client = self.client
        shapes = {key: str(record[key]) for key in ("input_shape", "output_shape") if record.get(key)}
        known = self._models()
        model = (
            known[0]
            if known
            else client.create_logged_model(
                self.experiment_id, name=MODEL_NAME, source_run_id=self.run_id, params=shapes, model_type="cnn"
            )
        )
        outputs = client.get_run(self.run_id).outputs
        if model.model_id not in [one.model_id for one in (outputs.model_outputs if outputs else [])]:
            client.log_outputs(self.run_id, models=[self.api.entities.LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory(prefix="cnnforge-") as folder:
            target = str(Path(folder) / "model")
            self.api.pyfunc.save_model(
                path=target,
                loader_module=record["loader"],
                data_path=str(source),
                pip_requirements=[_requirement()],
                mlflow_model=self.api.models.Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    model_id=model.model_id,
                    run_id=self.run_id,
                    metadata=shapes or None,  # not a signature: that would refuse float64 input
                ),
            )
            client.log_model_artifacts(model.model_id, target)
        client.finalize_logged_model(model.model_id, "READY")
        self._score(model.model_id)

    def _score(self, model_id: str) -> None:
        """Gives a model the run's test numbers, which are its own, so that models can be compared too."""
        last = [metric for name in MODEL_METRICS for metric in self.client.get_metric_history(self.run_id, name)[-1:]]
        made = self.api.entities.Metric
        metrics = [made(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=self.run_id) for m in last]
        if metrics:
            self.client.log_batch(self.run_id, metrics=metrics)

    def register(self, name: str) -> bool:
        """Makes the run's model a version of the registered model ``name``, once; False where it has no model."""
        client = self.client
        models = self._models()
        if not models:
            return False
        try:
            client.create_registered_model(name)
        except self.api.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        if not client.search_model_versions(f"name = '{name}' AND run_id = '{self.run_id}'"):
            self.api.set_tracking_uri(client.tracking_uri)  # MLflow looks for the model there, not where the client is
            source = f"models:/{models[0].model_id}"
            client.create_model_version(name, source, self.run_id, model_id=models[0].model_id, await_creation_for=0)
        return True

    def _models(self) -> list[Any]:
        """The run's model, if it has one."""
        what = f"name = '{MODEL_NAME}' AND source_run_id = '{self.run_id}'"
        return list(self.client.search_logged_models([self.experiment_id], filter_string=what))

    def resume(self) -> None:
        """Makes an ended run a running one."""
        self.client.update_run(self.run_id, status="RUNNING")

    def end(self, status: str, word: str, time: int) -> None:
        """Ends the run. status: MLflow's; word: ours; time: ms since the epoch."""
        self.client.set_tag(self.run_id, "cnnforge.status", word)
        self.client.set_terminated(self.run_id, status, time)

    def check_alive(self) -> None:
        """Raises whatever a silent tracker raises, and ``RunDeletedError``."""
        if self.client.get_run(self.run_id).info.lifecycle_stage != "active":
            raise RunDeletedError(f"the run was deleted in MLflow; mlflow runs restore --run-id {self.run_id}")

    def refuses(self, error: Exception) -> bool:
        """Whether trying the same again can never help."""
        code = getattr(error, "error_code", "")
        return isinstance(error, self.api.exceptions.MlflowException) and code == "INVALID_PARAMETER_VALUE"

    def is_busy(self, error: Exception) -> bool:
        """Whether trying later will help: a locked database, a server with too much to do."""
        return getattr(error, "error_code", "") in ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")


def open_run(address: str, wanted: Wanted) -> Store:
    """Opens the store and finds or makes the run. Raises ``UnreachableError``, ``RunDeletedError`` or MLflow's own."""
    api = mlflow_api()
    try:
        with prepared(address):
            client = api.MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
    except Exception as error:  # whatever a broken address, network or database brings forth
        raise UnreachableError(said(error)) from error
    return _find_run(api, client, wanted) or _create_run(api, client, wanted, local_database(address))


def delete_run(address: str, run_id: str) -> bool:
    """Marks a run as deleted, from which MLflow can restore it; False where there is none or somebody did it before.

    Raises ``UnreachableError`` or MLflow's own.
    """
    api = mlflow_api()
    try:
        with prepared(address):
            client = api.MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise UnreachableError(said(error)) from error
    if not _is_active(api, client, run_id):
        return False
    client.delete_run(run_id)
    return True


def _find_run(api: Any, client: Any, wanted: Wanted) -> Store | None:
    """The MLflow run by its id, or, where that is lost, by our tag; ``None`` if there is none."""
    run = None
    if wanted.known is not None:
        try:
            run = client.get_run(wanted.known)
        except api.exceptions.MlflowException as error:  # another database lies there now
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
    if run is None:
        everything, name = api.entities.ViewType.ALL, wanted.experiment
        experiments = client.search_experiments(
            view_type=everything, filter_string=f"name = '{name}'" if name and "'" not in name else None
        )
        ids = [experiment.experiment_id for experiment in experiments]
        found = client.search_runs(ids, f"tags.`{RUN_TAG}` = '{wanted.ours}'", everything, 1) if ids else []
        run = found[0] if found else None
    if run is None:
        return None
    info = run.info
    store = Store(api, client, info.experiment_id, info.run_id, info.status, dict(run.data.params))
    store.check_alive()
    for tag, value in _family_tags(wanted).items():  # the sweep may have been sent after its trial, or anew
        if run.data.tags.get(tag) != value:
            client.set_tag(info.run_id, tag, value)
    return store


def _create_run(api: Any, client: Any, wanted: Wanted, database: Path | None) -> Store:
    name = wanted.experiment or DEFAULT_EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # MLflow's default is a folder of the working directory; a server's is the server's business
        location = None if database is None else artifacts_uri(database)
        try:
            client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
        except api.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise RunDeletedError(f"experiment {name!r} was deleted in MLflow; restore it there or name another")
    if wanted.parent is not None and not _is_active(api, client, wanted.parent):
        raise RunDeletedError(f"its sweep was deleted in MLflow; mlflow runs restore --run-id {wanted.parent}")
    tags = {
        **_family_tags(wanted),
        RUN_TAG: wanted.ours,
        "cnnforge.run_dir": str(wanted.run_dir.resolve()),
        "mlflow.source.name": "cnnforge",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    run = client.create_run(experiment.experiment_id, wanted.started, tags, wanted.name)
    return Store(api, client, experiment.experiment_id, run.info.run_id, "RUNNING")


def _family_tags(wanted: Wanted) -> dict[str, str]:
    return {**wanted.tags, **({PARENT_TAG: wanted.parent} if wanted.parent is not None else {})}


def _is_active(api: Any, client: Any, run_id: str) -> bool:
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except api.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # else removed for good: as deleted
            raise
    return False


def mlflow_api() -> Any:
    """The ``mlflow`` module, quiet. Takes 2.7 s of CPU the first time."""
    os.environ.update(FORCED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def said(error: BaseException) -> str:
    """One short line of an error; MLflow's run over a page."""
    text = (str(error).strip().splitlines() or [""])[0]
    system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return system[1] if system else text[:300] or type(error).__name__


def _requirement() -> str:
    try:
        return f"cnnforge=={importlib.metadata.version('cnnforge')}"
    except importlib.metadata.PackageNotFoundError:
        return "cnnforge"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user database
        return "unknown"
