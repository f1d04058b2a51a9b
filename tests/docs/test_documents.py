"""What README and docs show is what happens."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.config import compose, compose_sweep, validate
from cnnforge.report.rules import rules_table
from cnnforge.sweep.space import Space
from tests.docs.shown import DOCUMENTS, ROOT, written_anew


def fences(document: Path, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text("utf-8"), re.M | re.S)


def shown_commands(document: Path) -> list[str]:
    return [line for block in fences(document, "sh") for line in block.splitlines() if "cnnforge " in line]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = fences(ROOT / "README.md", "python")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stdout


def test_the_yaml_of_the_readme_is_the_shipped_file(tmp_path):
    (text,) = fences(ROOT / "README.md", "yaml")
    (tmp_path / "shown.yaml").write_text(text)
    from cnnforge.config import read_model, validate_model

    assert validate_model(read_model(tmp_path / "shown.yaml")) == validate(compose(["model=lenet"])).model


def test_the_sweep_of_its_page_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = fences(ROOT / "docs" / "sweeps.md", "yaml")
    (tmp_path / "configs" / "sweep").mkdir(parents=True)
    (tmp_path / "configs" / "sweep" / "mine.yaml").write_text(text)
    sweep = compose_sweep(["sweep=mine"])
    assert set(sweep.spec.model_fields_set) >= {"space", "sampler", "objective", "budget", "constraints", "replicate"}
    assert sweep.run(Space.of(sweep.spec).sample(0, 0)).model.name in ("lenet", "lenet5")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_shown_output_is_what_the_command_prints(document):
    assert written_anew(document) == document.read_text("utf-8"), "make docs writes it anew"


@pytest.mark.parametrize(
    "line", [line for page in ("README.md", "docs/how-to.md") for line in shown_commands(ROOT / page)]
)
def test_shown_commands_are_valid(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat/1.png", "dog/1.png"):  # classes are counted
        (tmp_path / "pictures" / name).parent.mkdir(parents=True)
        (tmp_path / "pictures" / name).write_bytes(b"")
    words = [w for w in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", w)]
    assert words[0] == "cnnforge"
    if words[1] in ("train", "check", "lr", "augment"):
        validate(compose([w for w in words[2:] if not w.startswith("--")]))
    else:
        assert main([*words[1:], "--help"]) == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_the_rules_of_lint_are_the_codes():
    assert (ROOT / "docs" / "lint.md").read_text("utf-8").endswith(f"\n\n{rules_table()}\n")


def test_the_example_of_add_a_block_works(tmp_path):
    """Do what the page says, in a copy of the package, and hold the new block to the conformance tests."""
    page = ROOT / "docs" / "add-a-block.md"
    block, line = fences(page, "python")
    (yaml,) = fences(page, "yaml")
    shutil.copytree(ROOT / "cnnforge", tmp_path / "cnnforge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "cnnforge/blocks/conv_norm.py").write_text(block)
    (tmp_path / "small.yaml").write_text(yaml)
    catalogue = tmp_path / "cnnforge/blocks/__init__.py"
    imported, entry = line.rstrip().split("\n\n")
    text = re.sub(r"(?<=^    Conv,$)", f"\n{entry}", catalogue.read_text(), flags=re.M)
    catalogue.write_text(text.replace("from cnnforge.fields", f"{imported}\nfrom cnnforge.fields"))
    (tmp_path / "try_it.py").write_text(
        "import cnnforge\n"
        "from tests.conformance.test_gradients import directional_error, one_block\n"
        "model = cnnforge.Model('small.yaml')\n"
        "assert {'stem.w', 'stem.gamma', 'stem.beta'} <= set(model.params)\n"
        "print(cnnforge.check('small.yaml'))\n"
        "block = {'type': 'conv_norm', 'filters': 3, 'kernel': 3, 'activation': 'silu'}\n"
        "assert directional_error(one_block(block)) < 1e-6\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "try_it.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conv_norm" in done.stdout
