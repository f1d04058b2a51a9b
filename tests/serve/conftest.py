from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serve import saved_run, service
from tests.serve.asking import Service


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a net that has three input channels and was trained on grey digits; its weights are the first ones."""
    return saved_run(tmp_path_factory.mktemp("runs") / "lenet-digits", "model=lenet")


@pytest.fixture(scope="package")
def served(run: Path) -> Iterator[Service]:
    """The service over it, as a process."""
    with service(run, "--max-bytes", "300000") as (process, port):
        yield Service(process, port)
        assert process.poll() is None, "it has died"
