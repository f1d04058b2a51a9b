"""``cnnforge draw``: files, kinds, and its mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cnnforge.cli.main import main
from cnnforge.report.diagram import diagram_svg
from tests.report.diagram.nets import shipped


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_svg_by_the_name_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "model=lenet"]) == 0
    assert Path("lenet.svg").read_text("utf-8") == diagram_svg(shipped("lenet"))
    assert capsys.readouterr().out == (
        "lenet.svg: lenet: 32x32x3 input, 5 layers with weights, 62,006 parameters, 651,720 MACs\n"
    )


def test_a_png_of_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "model=resnet20", "--out", "net.PNG", "model.layers.stem.filters=16", "--kind=blocks"]) == 0
    with Image.open("net.PNG") as image:
        assert image.format == "PNG"
        assert image.width == 1600
    assert capsys.readouterr().out.startswith("net.PNG: resnet20: ")


def test_parts_as_boxes() -> None:
    assert main(["draw", "model=resnet50", "--depth", "1", "--kind", "volumes", "--out", "parts.svg"]) == 0
    text = Path("parts.svg").read_text("utf-8")
    assert ">stage2<" in text
    assert ">30 layers<" in text
    assert ">28x28x512<" in text


def test_the_data_has_no_say() -> None:
    assert main(["draw", "model=lenet", "model.layers.output.units=7"]) == 0


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ["--out", "net.jpg"],
            "--out net.jpg ends in neither .svg nor .png\n  where: cnnforge draw --out\n"
            "  why:   the ending says how the picture is written\n  fix:   --out net.svg\n",
        ),
        (
            ["--out", "nowhere/net.svg"],
            "nowhere/net.svg cannot be written\n  where: cnnforge draw --out\n  why:   No such file or directory\n"
            "  fix:   a file in a folder that exists and may be written to\n",
        ),
        (
            ["--out", "nowhere/net.png"],
            "nowhere/net.png cannot be written\n  where: cnnforge draw --out\n  why:   No such file or directory\n"
            "  fix:   a file in a folder that exists and may be written to\n",
        ),
        (
            ["model=resnet20", "--kind", "volumes"],
            "resnet20 cannot be drawn as volumes\n  where: cnnforge draw --kind volumes\n"
            "  why:   volumes stand one behind the other, and stage1.1 reads stage1.1.conv2 and stem\n"
            "  fix:   --kind blocks, or --depth 1 for its parts as one box each\n",
        ),
        (
            ["--depth", "0"],
            "argument --depth: '0' is not a whole number above 0\n  where: cnnforge draw\n"
            "  fix:   cnnforge draw --help shows what it takes\n",
        ),
    ],
)
def test_mistakes(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", *argv]) == 2
    assert capsys.readouterr() == ("", text)
    assert not list(Path.cwd().iterdir())


def test_an_svg_needs_neither_numpy_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom cnnforge.cli.main import main\nassert main(['draw', 'model=lenet']) == 0\n"
        "assert not {'numpy', 'matplotlib', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
