"""What the tests of this room share: run folders beside one real MLflow database, and a look into it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

Query = Callable[..., list[tuple[Any, ...]]]
NewRun = Callable[[], Path]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of runs for all tests: making a database takes three seconds. The blank is there to be minded."""
    folder = tmp_path_factory.mktemp("tracking") / "my runs"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _no_tracking_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def new_run(runs: Path) -> NewRun:
    """Makes another run folder."""
    numbers = itertools.count()

    def make() -> Path:
        folder = runs / f"run-{next(numbers)}"
        folder.mkdir()
        return folder

    return make


@pytest.fixture(scope="session")
def query(runs: Path) -> Query:
    """Asks MLflow's database directly: what lies there is what MLflow shows."""

    def ask(sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(runs / "mlflow.db", timeout=10)) as connection:
            return connection.execute(sql, values).fetchall()

    return ask
