"""The example of docs/plugins.md, built, installed and used; and what packages can get wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_documents import ROOT, fences

PAGE = ROOT / "docs" / "plugins.md"


def run(work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``cnnforge WORDS`` in ``work``, with what is installed in ``work/site``."""
    paths = [str(work / "site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "error", "-m", "cnnforge", *words]
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the page's configs, and its package installed in ``site``."""
    pytest.importorskip("hatchling")
    work = tmp_path_factory.mktemp("plugins")
    for language, owner in (("toml", "source"), ("python", "source"), ("yaml", ".")):
        for code in fences(PAGE, language):
            file = work / owner / code.partition("\n")[0].removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
    (work / "source/cnnforge_extras/__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", work / "site", work / "source"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return work


def test_it_is_in_the_table(work):
    done = run(work, "check", "model=separable", "optimizer=lion", "data=digits", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["layers"]}
    assert rows["conv2"]["type"] == "separable_conv"
    assert rows["conv2"]["params"] == 3 * 3 * 8 + 8 * 16 + 16
    assert rows["conv2"]["macs"] == 64 * (9 * 8 + 8 * 16)


def test_it_trains(work):
    words = ("train", "model=separable", "optimizer=lion", "tracking=none", "trainer.max_steps=60", "trainer.epochs=5")
    done = run(work, *words, "trainer.batch_size=32", "run.name=extras", "optimizer.lr=0.003")
    assert done.returncode == 0, done.stderr
    result = json.loads((work / "runs/extras/result.json").read_text())
    assert (result["status"], result["steps"]) == ("finished", 60)
    assert result["test_accuracy"] > 0.3, "a tenth would be guessing"


def test_its_gradient_is_right(work):
    code = (
        "import numpy as np, cnnforge\n"
        "model = cnnforge.Model('configs/model/separable.yaml', precision='float64')\n"
        "rng = np.random.default_rng(0)\n"
        "x, labels = rng.normal(size=(4, 8, 8, 1)), np.array([1, 2, 3, 9])\n"
        "_, grads = model.loss_and_grads(x, labels)\n"
        "start = {name: np.array(w) for name, w in model.params.items()}\n"
        "way = {name: rng.normal(size=w.shape) for name, w in start.items()}\n"
        "def at(t):\n"
        "    for name, w in start.items():\n"
        "        model.params[name] = w + t * way[name]\n"
        "    return model.loss_and_grads(x, labels)[0]\n"
        "slope = (at(1e-6) - at(-1e-6)) / 2e-6\n"
        "expected = sum((grads[name] * way[name]).sum() for name in start)\n"
        "assert abs(slope - expected) < 1e-5 * abs(expected), (slope, expected)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(work / "site"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_in_the_schema(work):
    done = run(work, "schema")
    schemas = json.loads(done.stdout)
    assert "separable_conv" in schemas["model"]["$defs"]["Block.formulas"]["properties"]["type"]["anyOf"][0]["enum"]
    lion = schemas["optimizer"]["$defs"]["Lion"]["properties"]
    assert (lion["lr"]["default"], lion["betas"]["description"][:8]) == (1e-4, "how much")
    assert done.stderr == ""


def test_a_mistake_in_its_fields(work):
    (shown,) = fences(PAGE, "text")
    done = run(work, "check", "model=separable", "optimizer=lion", "optimizer.betas=[0.9]")
    assert (done.returncode, done.stderr) == (2, shown)


def test_importing_the_package_first_works_too(work):
    code = (
        "from cnnforge_extras.optimizer import Lion\n"
        "from cnnforge_extras.block import SeparableConv\n"
        "from cnnforge.optim import OPTIMIZERS\nfrom cnnforge.blocks import BLOCKS\n"
        "assert OPTIMIZERS['lion'] is Lion and BLOCKS['separable_conv'] is SeparableConv\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(work / "site"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_checking_imports_no_numpy(work):
    code = (
        "import sys; from cnnforge.cli.main import main\n"
        "assert main(['check', 'model=separable', 'optimizer=lion']) == 0\n"
        "assert not {'numpy', 'cnnforge_extras.kernels'} & sys.modules.keys()\n"
        "assert 'cnnforge_extras.loss' in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(work / "site"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def offer(work: Path, package: str, entry_points: str, code: str = "") -> None:
    """An installed package, as pip leaves it."""
    folder = work / "site" / f"{package}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "entry_points.txt").write_text(entry_points)
    (work / "site" / f"{package}.py").write_text(code)


BROKEN = {
    "no module": (
        "tiger = nowhere:Tiger", "",
        "importing nowhere failed: ModuleNotFoundError: No module named 'nowhere'",
    ),
    "no class": (
        "tiger = zoo:Tiger", "",
        "importing zoo failed: AttributeError: module 'zoo' has no attribute 'Tiger'",
    ),
    "an error": ("tiger = zoo:Tiger", "1 / 0", "importing zoo failed: ZeroDivisionError: division by zero"),
    "something else": (
        "tiger = zoo:Tiger", "Tiger = 3",
        "zoo:Tiger is not a subclass of cnnforge.optim.base.Optimizer",
    ),
    "another type": (
        "tiger = zoo:Adam", "from cnnforge.optim.adam import Adam",
        """the class needs 'type: Literal["tiger"]', it has adam""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package(name, tmp_path):
    line, code, why = BROKEN[name]
    offer(tmp_path, "zoo", f"[cnnforge.optimizers]\n{line}\n", code)
    note = f"note: 'tiger' of the installed package zoo cannot be used: {why}\n"
    done = run(tmp_path, "check", "model=lenet")
    assert (done.returncode, done.stderr.replace("\n\n", "\n").endswith(note)) == (0, True), done.stderr
    done = run(tmp_path, "check", "optimizer.type=tiger")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "optimizer: 'tiger' of the installed package zoo cannot be used\n"
        "  where: <override 'optimizer.type=tiger'> (optimizer.type)\n"
        f"  why:   {why}\n"
        "  fix:   another version of zoo, or pip uninstall zoo\n"
    )


def test_a_name_that_is_taken(tmp_path):
    offer(tmp_path, "zoo", "[cnnforge.blocks]\nconv = zoo:Conv\ntiger = zoo:Tiger\n")
    offer(tmp_path, "circus", "[cnnforge.blocks]\ntiger = circus:Tiger\n[cnnforge.ops]\nrelu = circus:RELU\n")
    done = run(tmp_path, "check", "model=lenet")
    assert done.returncode == 0
    notes = re.findall("^note: '(.*)' of the installed package (.*) cannot be used: (.*)$", done.stderr, re.M)
    taken = "has a '{}' too, and a name stands for one thing"
    assert notes == [
        ("conv", "zoo", f"cnnforge itself {taken.format('conv')}"),
        ("tiger", "circus", f"zoo {taken.format('tiger')}"),
        ("tiger", "zoo", f"circus {taken.format('tiger')}"),
        ("relu", "circus", f"cnnforge itself {taken.format('relu')}"),
    ]
