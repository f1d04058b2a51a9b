from __future__ import annotations

import gzip
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from cnnforge.data import digits, load
from cnnforge.errors import DataError
from cnnforge.spec import DigitsData

DIGITS = DigitsData(type="digits")


def test_the_embedded_digits() -> None:
    data = load(DIGITS, (32, 32, 3), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)
    assert data.source == "scikit-learn digits.csv.gz"
    assert data.digest == "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
    assert data.notes == (
        "pixels 0..16 scaled to 0..255",
        "pictures 8x8x1 -> 32x32x3: bilinear, channel repeated 3 times",
    )
    assert (data.classes, data.class_names) == (10, tuple("0123456789"))
    labels = np.concatenate([split.y for split in (data.train, data.validation, data.test)])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_first_digit_is_a_zero() -> None:
    stored = digits.read(DIGITS)
    x = stored.train.x[0, ..., 0]
    levels = [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    np.testing.assert_array_equal(x, np.floor(np.array(levels) * 255 / 16 + 0.5))
    assert stored.train.y[0] == 0
    assert stored.train.x.max() == 255


def test_scikit_learn_is_not_imported() -> None:
    code = (
        "import sys, cnnforge.data as d, cnnforge.spec as s\n"
        "d.load(s.DigitsData(type='digits'), (32, 32, 3), 0)\n"
        "print([m for m in ('sklearn', 'scipy', 'PIL', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"


def test_own_file_comes_first(empty_places: Path) -> None:
    rows = [",".join(["0"] * 63 + ["16", str(i % 10)]) for i in range(20)]
    (empty_places / "digits.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    data = load(DigitsData(type="digits", root="."), (8, 8, 1), seed=0)
    assert (data.source, len(data.test)) == ("digits.csv.gz", 4)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        digits.read(DIGITS)
    assert str(caught.value) == (
        "digits: the data file is not there\n"
        f"  where: {tmp_path}/cache/cnnforge/data/digits (the user's cache)\n"
        "  why:   wanted digits.csv plain or .gz\n"
        "  fix:   pip install scikit-learn, whose package has the file"
    )


def test_scikit_learn_without_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = ModuleSpec("sklearn", None, is_package=True)
    found.submodule_search_locations = [str(tmp_path / "sklearn")]
    monkeypatch.setattr(digits, "find_spec", lambda name: found)
    with pytest.raises(DataError) as caught:
        digits.read(DIGITS)
    assert f"{tmp_path}/sklearn/datasets/data (the scikit-learn package)" in str(caught.value)
    assert "fix:   pip install --force-reinstall scikit-learn" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"1,2,3\n", "3 columns where 64 pixels and a label belong"),
        (b",".join([b"17"] * 65), "pixels from 17 to 17 where 0 to 16 belong"),
        (b"<html>not found</html>", "could not convert string '<html>not found</html>' to int64 at row 0, column 1."),
    ],
)
def test_not_the_table(content: bytes, why: str, empty_places: Path) -> None:
    (empty_places / "digits.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        digits.read(DigitsData(type="digits", root="."))
    assert str(caught.value) == (
        f"digits.csv is not the table of digits\n  where: digits.csv\n  why:   {why}\n"
        "  fix:   remove or repair digits.csv"
    )
