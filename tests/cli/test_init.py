"""``cnnforge init``: what it writes can be checked at once, nothing is written over, the Makefile's commands run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from cnnforge.cli.main import main
from cnnforge.config import compose, compose_sweep, validate, warnings
from cnnforge.sweep.space import Space

ROOT = Path(__file__).parents[2]
FILES = {
    "configs/model/mine.yaml", "configs/experiment/first.yaml", "configs/sweep/widths.yaml", "Makefile", "README.md",
    ".gitignore",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return {name for name in found if "/.schema/" not in name}


def pictures(folder: Path, sizes: dict[str, tuple[int, int]], mode: str = "RGB", count: int = 4) -> Path:
    """A folder with a folder of pictures for each class, of the (width, height) given."""
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new(mode, size, 40 * i if mode == "L" else (40 * i, 0, 90)).save(folder / name / f"{i}.png")
    return folder


def test_a_project_on_the_digits(here, monkeypatch, capsys):
    assert main(["init", "net"]) == 0
    said = capsys.readouterr().out
    assert written(here / "net") == FILES
    assert all(f"  {name}\n" in said for name in FILES)
    assert "next:\n  cd net\n  make train" in said
    monkeypatch.chdir(here / "net")
    composed = compose(["experiment=first"])
    run = validate(composed)
    assert (run.model.name, run.data.type, run.run.name) == ("mine", "digits", "first")
    assert not warnings(composed, run)
    assert main(["check", "experiment=first", "--strict"]) == 0
    sweep = compose_sweep(["sweep=widths", "experiment=first"])
    assert len(list(Space.of(sweep.spec).enumerate())) == 4


def test_the_project_of_the_tutorial_is_what_init_writes(here):
    main(["init", "mynet"])
    page = (ROOT / "docs/tutorials/first-model.md").read_text("utf-8")
    shown = re.search(r"^```yaml\n# configs/model/mine.yaml\n(.*?)^```", page, re.M | re.S)
    assert shown
    assert shown[1] in (here / "mynet/configs/model/mine.yaml").read_text("utf-8")


def test_the_editor_finds_the_schemas(here):
    main(["init", "net"])
    configs = sorted((here / "net/configs").rglob("*.yaml"))
    assert len(configs) == 3
    for file in configs:
        schema = re.search(r"yaml-language-server: \$schema=(\S+)", file.read_text("utf-8"))
        assert schema
        assert json.loads((file.parent / schema[1]).read_text("utf-8"))["title"]


@pytest.mark.parametrize(
    ("sizes", "mode", "input"),
    [
        ({"cat": (70, 90), "dog": (80, 64)}, "RGB", (64, 64, 3)),
        ({"cat": (40, 90), "dog": (33, 50), "owl": (32, 32)}, "L", (32, 32, 1)),
        ({"no": (9, 9), "it's": (8, 20)}, "RGB", (16, 16, 3)),
    ],
)
def test_a_project_on_pictures(sizes, mode, input, here, monkeypatch):
    pictures(here / "pets", sizes, mode)
    assert main(["init", "net", "--data", "pets"]) == 0
    assert written(here / "net") == FILES | {"configs/data/pictures.yaml"}
    monkeypatch.chdir(here / "net")
    run = validate(compose(["experiment=first"]))
    assert run.model.input == input
    assert run.data.type == "image_folder"
    assert (run.data.path, run.data.classes) == (str(here / "pets"), tuple(sorted(sizes)))
    assert run.model.table[-1].output == (len(sizes),)
    assert [row.output[:2] for row in run.model.table if row.type == "conv"][-1] == (8, 8)


def test_pictures_inside_the_project_are_found_from_it(here, monkeypatch):
    pictures(here / "net/pictures", {"a": (20, 20), "b": (20, 20)})
    assert main(["init", "net", "--data", "net/pictures"]) == 0
    monkeypatch.chdir(here / "net")
    assert validate(compose(["experiment=first"])).data.path == "pictures"


def test_a_test_folder_is_the_test_and_an_archive_will_do(here):
    for part in ("train", "test"):
        pictures(here / "pets" / part, {"a": (20, 20), "b": (20, 20)})
    with zipfile.ZipFile("pets.zip", "w") as archive:
        for file in (here / "pets").rglob("*.png"):
            archive.write(file, file.relative_to(here))
    for name, source in (("one", "pets"), ("two", "pets.zip")):
        assert main(["init", name, "--data", source]) == 0
        data = yaml.safe_load((here / name / "configs/data/pictures.yaml").read_text("utf-8"))
        assert (data["classes"], data["test"]) == (["a", "b"], 0.0)


def test_nothing_is_written_over(here, capsys):
    (here / "net/configs/model").mkdir(parents=True)
    (here / "net/Makefile").write_text("mine")
    (here / "net/configs/model/mine.yaml").symlink_to("nowhere")
    (here / "net/notes.txt").write_text("in nobody's way")
    assert main(["init", "net"]) == 2
    assert capsys.readouterr().err == (
        "net: configs/model/mine.yaml, Makefile are already there\n"
        "  where: cnnforge init net\n"
        "  why:   nothing that you wrote is written over\n"
        "  fix:   another folder, or --force, which keeps them and writes only the other files\n"
    )
    assert written(here / "net") == {"Makefile", "notes.txt"}

    assert main(["init", "net", "--force"]) == 0
    assert "Makefile   kept as it is" in capsys.readouterr().out
    assert (here / "net/Makefile").read_text() == "mine"
    assert (here / "net/configs/model/mine.yaml").is_symlink()
    assert written(here / "net") == FILES - {"configs/model/mine.yaml"} | {"notes.txt"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["init", "file"], 2, "the project's files cannot be written there"),
        (["init", "net", "--data", "nowhere"], 3, "nowhere: no such folder"),
        (["init", "net", "--data", "alone"], 3, "pictures of one class alone are there, a"),
        (["init", "net", "--data", "empty"], 3, "empty: no classes of pictures to tell apart"),
        (["init", "net", "--data", "broken"], 3, "broken: none of the pictures can be read"),
        (["init"], 2, "the following arguments are required: DIR"),
    ],
)
def test_what_cannot_be(words, code, said, here, capsys):
    (here / "file").write_text("a file")
    pictures(here / "alone", {"a": (8, 8)})
    (here / "empty").mkdir()
    for name in ("a", "b"):
        (here / "broken" / name).mkdir(parents=True)
        (here / "broken" / name / "1.png").write_bytes(b"no picture")
    assert main(words) == code
    assert said in capsys.readouterr().err
    assert not (here / "net").exists()


@pytest.mark.slow
def test_what_the_makefile_and_the_readme_say_runs(here):
    """The commands of the two, in a process each, as a person would type them."""
    program = f"{sys.executable} -m cnnforge"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*program.split(), "init", "net"], env=environment, check=True)
    readme = (here / "net/README.md").read_text("utf-8")
    commands = [line.split("#")[0].strip() for line in readme.splitlines() if line.startswith("    ")]
    assert "make train" in commands
    later = {"make report"} if main(["report", "--help"]) else set()  # comes with its command
    for command in ["make", "make check", *(c for c in commands if c not in later)]:
        words = command.replace("make", f"make CNNFORGE='{program}'", 1) if command.startswith("make") else command
        words = re.sub(r"^cnnforge", program, words)
        done = subprocess.run(words, shell=True, cwd="net", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    result = json.loads((here / "net/runs/first/result.json").read_text("utf-8"))
    assert result["test_accuracy"] > 0.95
    assert len(list((here / "net/runs/widths/trials").iterdir())) == 4
