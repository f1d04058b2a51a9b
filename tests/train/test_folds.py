"""Cross-validation: every sample is validation once, a run for each fold, their mean."""

import io
import json
import re
import shutil
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from cnnforge.cli.console import PlainConsole
from cnnforge.cli.main import main
from cnnforge.config import compose, validate
from cnnforge.data import load
from cnnforge.errors import ConfigError, ConfigErrors, DataError
from cnnforge.tracking.family import FOLDS
from cnnforge.train.folds import cross_validate, go_on

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=97", "data.test_samples=30", "data.noise=1", "tracking=none",
    "trainer.batch_size=32", "trainer.epochs=2", "data.folds=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spec(*words):
    return validate(compose([*QUICK, *words]))


@pytest.mark.parametrize("stratify", ["true", "false"])
def test_every_sample_is_validation_once(stratify):
    cuts = [load(spec(f"data.fold={fold}", f"data.stratify={stratify}").data, (32, 32, 1), 0) for fold in range(1, 5)]
    assert [len(cut.validation) for cut in cuts] == [25, 24, 24, 24]
    assert all(len(cut.train) + len(cut.validation) == 97 for cut in cuts)
    every = np.concatenate([cut.validation.x.reshape(len(cut.validation), -1)[:, :50] for cut in cuts])
    assert len(np.unique(every, axis=0)) == 97
    assert all(np.array_equal(cut.test.x, cuts[0].test.x) for cut in cuts)
    assert "fold 2 of 4" in cuts[1].notes


def test_a_run_for_each_and_their_mean(capsys):
    assert main(["train", *QUICK, "run.name=cv"]) == 0
    out = capsys.readouterr().out
    assert "over 4 folds" in out
    assert out.rstrip().endswith(" ui --dir runs/cv"), "where the folds' database is"
    folder = Path("runs/cv")
    assert Path("runs/latest").resolve() == folder.resolve()
    results = [json.loads((folder / f"cv-fold-{i}" / "result.json").read_text()) for i in range(1, 5)]
    whole = json.loads((folder / "result.json").read_text())
    for name in ("val_accuracy", "test_loss"):
        values = [r[name] for r in results]
        assert whole[name] == pytest.approx(fmean(values))
        assert whole[f"{name}_deviation"] == pytest.approx(stdev(values))


def test_what_is_left_is_done():
    console = PlainConsole(io.StringIO())
    folder, whole = cross_validate(spec("run.name=cv"), console)
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "cv-fold-3")
    before = (folder / "cv-fold-1" / "journal.jsonl").read_bytes()
    assert main(["resume", "cv"]) == 0
    assert (folder / "cv-fold-1" / "journal.jsonl").read_bytes() == before
    again = json.loads((folder / "result.json").read_text())
    same = [name for name in whole if not name.startswith(("samples", "data_wait", "wall", "first"))]
    assert {name: again[name] for name in same} == {name: whole[name] for name in same}
    config = folder / "config.yaml"
    config.write_text(re.sub(r" folds: 4,", "", config.read_text()))
    with pytest.raises(ConfigError, match="cv is no cross-validation"):
        go_on(folder, console)
    assert (folder / FOLDS).is_file()


def test_what_cannot_be_cut_is_named():
    with pytest.raises(ConfigErrors, match="fold 5 of 4 folds"):
        spec("data.fold=5")
    with pytest.raises(ConfigErrors, match="fold 1 of no folds"):
        spec("data.folds=null", "data.fold=1")
    with pytest.raises(DataError, match="3 training samples cannot be cut into 4 folds"):
        load(spec("data.samples=3").data, (32, 32, 1), 0)
