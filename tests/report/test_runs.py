"""Runs as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cnnforge.cli.runs import SORTS
from cnnforge.report.runs import KEYS, comparison, listing, number, ordered, told_json
from cnnforge.tracking.history import Told


def run(name: str, started: int = 0, status: str = "finished", **result: Any) -> Told:
    params = {"model.name": "lenet", "trainer.epochs": "3"}
    data: Mapping[str, Any] = {"name": "digits", "digest": "abc"}
    return Told(Path(name), name, "run", status, params, {"params": "1234"}, data, result, started, started, None)


GOOD = run("good", 60_000, test_accuracy=0.9, best_val_accuracy=0.8, val_accuracy=0.7, epochs=3, wall_seconds=5.0)
POOR = run("poor", 120_000, test_accuracy=0.5, epochs=3)
BENT = run("bent", 30_000, "killed", val_loss=0.25, epochs=1)
NEW = Told(Path("new"), "new", "run", "killed", {}, {}, {}, {}, 0, 0, None)


def test_a_line_each() -> None:
    lines = [line.split() for line in listing([GOOD, POOR, BENT])]
    assert lines[0] == [
        "run",
        "status",
        "model",
        "data",
        "parameters",
        "epochs",
        "validation",
        "test",
        "time",
        "started",
    ]
    assert lines[2][:9] == ["good", "finished", "lenet", "digits", "1,234", "3/3", "80.00%", "90.00%", "5"]
    assert lines[4][5:8] == ["1/3", "loss", "0.25"]
    assert [line.split() for line in listing([NEW])][::2] == [["run", "status"], ["new", "killed"]]


def test_orders() -> None:
    assert set(SORTS) == set(KEYS)
    runs = [NEW, GOOD, POOR, BENT]
    for key, names in {
        "started": ["poor", "good", "bent", "new"],
        "name": ["bent", "good", "new", "poor"],
        "val": ["good", "bent", "new", "poor"],
        "test": ["good", "poor", "new", "bent"],
        "epochs": ["bent", "good", "poor", "new"],
    }.items():
        assert [one.name for one in ordered(runs, key)] == names, key


def test_side_by_side() -> None:
    text = comparison(
        [GOOD, POOR], {"optimizer.lr": ["0.1", "0.01"], **{f"model.layers.l{i}.filters": ["1", "2"] for i in range(30)}}
    )
    rows = [line.split("  ") for line in text]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert rows[0] == ["good", "poor"]
    assert ["optimizer.lr", "0.1", "0.01"] in rows
    assert ["layers (30 values differ)", "0", "0"] in rows
    assert ["test_accuracy", "90.00% *", "50.00%"] in rows
    assert ["epochs", "3", "3"] in rows
    assert not any("digest" in line for line in text)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("test_accuracy", 0.5, "50.00%"), ("peak_memory_bytes", 2048, "2.0 KiB"), ("wall_seconds", 0.5, "500 ms"),
     ("steps", 1234, "1,234"), ("test_loss", 0.0123456, "0.012346"), ("samples_per_second", 1234.56, "1,235")],
)  # fmt: skip
def test_numbers(name: str, value: float, text: str) -> None:
    assert number(name, value) == text


def test_json_has_no_number_that_json_lacks() -> None:
    assert told_json(run("a", train_loss=float("nan"), epochs=3))["result"] == {"train_loss": None, "epochs": 3}
