"""Accuracy against minutes: a run's checkpoints, tested one by one."""

import io
import json

import pytest

from benchmarks import curve
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.train.run import run


def test_the_last_point_is_the_runs_own_result(tmp_path, capsys):
    words = ["model=lenet1", "data=synthetic", "data.samples=80", "data.test_samples=40", "data.validation=0.0",
             "trainer.epochs=3", "trainer.batch_size=16", "trainer.keep=9", "trainer.backend=numpy", "tracking=none",
             f"run.dir={tmp_path}"]  # fmt: skip
    folder, result = run(validate(compose(words)), PlainConsole(io.StringIO()))
    theirs, mine, picture = tmp_path / "theirs.json", tmp_path / "mine.json", tmp_path / "curve.svg"
    theirs.write_text("[[0.5, 0.1], [1, 0.2]]")
    curve.main([str(folder), "--beside", f"theirs={theirs}", "--points", str(mine), "--out", str(picture)])
    found = json.loads(mine.read_text())
    assert len(found) == 3
    assert found[-1][1] == pytest.approx(result["test_accuracy"])
    assert [minutes for minutes, _ in found] == sorted(minutes for minutes, _ in found)
    assert capsys.readouterr().out.count(" min ") == 3
    assert "<svg" in picture.read_text()
