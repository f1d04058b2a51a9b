"""What the tests of the config language share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnforge.config import compose, validate
from cnnforge.errors import ConfigErrors
from cnnforge.spec import RunSpec

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def lenet_run() -> RunSpec:
    return validate(compose(["model=lenet"]))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """``write("model/mine.yaml", text)`` puts a file into a config folder of the user's own: ./configs."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / "configs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


@pytest.fixture
def mistakes() -> Callable[..., list[str]]:
    """Every error that composing and validating these overrides gives, as text."""

    def collect(*overrides: str, match_data: bool = False) -> list[str]:
        try:
            validate(compose(list(overrides)), match_data=match_data)
        except ConfigErrors as errors:
            return [str(error) for error in errors.errors]
        return []

    return collect
