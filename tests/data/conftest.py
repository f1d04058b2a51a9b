"""Where the tests of data sets look for files: nowhere but where a test says, except for the real MNIST."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CNNFORGE_DATA = os.environ.get("CNNFORGE_DATA")


@pytest.fixture(autouse=True)
def empty_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory and cache, and no ``$CNNFORGE_DATA``."""
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The real files; skips where they are not."""
    for base in ([Path(CNNFORGE_DATA)] if CNNFORGE_DATA else []) + [SHARED]:
        if (base / "mnist" / "train-images-idx3-ubyte.gz").is_file():
            return (base / "mnist").resolve()
    pytest.skip("no MNIST: set CNNFORGE_DATA to a folder with mnist/train-images-idx3-ubyte.gz and the other three")
