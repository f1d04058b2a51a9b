from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cnnforge.cli.main import main

SYNTHETIC = ["data=synthetic", "model=lenet5", "augment.rotate.degrees=20"]


def test_a_picture_of_what_training_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "seen.PNG"
    assert main(["augment", *SYNTHETIC, "--samples", "3", "--epochs=2", "--out", str(file)]) == 0
    said = f"{file}: 3 training pictures in rows, first as they are, then in epochs 1 to 2\n"
    assert capsys.readouterr().out == said
    with Image.open(file) as picture:
        assert picture.size == (4 + 3 * 68, 4 + 3 * 68)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "seen.jpg"], "--out seen.jpg does not end in .png"),
        (["--out", "nowhere/seen.png"], "nowhere/seen.png cannot be written\n  where: cnnforge augment --out\n"),
        (["--samples", "0"], "argument --samples: '0' is not a whole number from 1 to 100"),
        (["--epochs", "x"], "argument --epochs: 'x' is not a whole number from 1 to 100"),
        (["augment.affine.scale=[2,1]"], "augment: affine.scale from 2 to 1\n"),
    ],
)
def test_mistakes(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["augment", *SYNTHETIC, *flags]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert (shown.out, list(tmp_path.iterdir())) == ("", [])
