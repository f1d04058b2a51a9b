"""A folder of pictures, and three commands as the README has them, as processes of their own."""

import json
import os
import resource
import subprocess
import sys

import pytest

from tests.drawn import SHAPES, draw_folder, drawn

#: Seconds of CPU that predicting one picture from cold may take, with much to spare for machines that are slower.
MOST = 1.5


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("newcomer")
    draw_folder(home / "pictures", 100)
    for shape in SHAPES:
        drawn(shape, 500).save(home / f"some_{shape}.png")
    return home


def command(home, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "CNNFORGE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "cnnforge", *words], cwd=home, env=kept, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(home):
    return command(home, "train", "data=image_folder", "data.path=pictures", "tracking=none")


def test_one_command_trains(trained, home):
    """Nobody has to say how many classes there are."""
    assert "data.classes: 3, counted in pictures: circle, square, triangle\n" in trained.stdout
    assert "model.layers.output.units: 3, one for each class, where " in trained.stdout
    result = json.loads((home / "runs" / "latest" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["test_accuracy"] > 0.9
    assert "  runs/lenet-image_folder/report.html\n" in trained.stdout
    assert trained.stdout.endswith(" runs show lenet-image_folder\n"), "MLflow has no copy to look at"
    page = (home / "runs" / "latest" / "report.html").read_text("utf-8")
    assert all(word in page for word in ("circle", "square", "triangle", "test accuracy"))


def test_one_says_how_good_it_is(trained, home):
    done = command(home, "evaluate", "latest", "--wrong", "3")
    assert done.stdout.startswith("lenet-image_folder on image_folder, test: 60 samples\n")


def test_one_predicts_and_shows_why(trained, home):
    done = command(home, "predict", "latest", "some_circle.png", "some_square.png", "some_triangle.png", "--explain")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["file", "1", "2", "3"]
    assert [row[0] for row in rows[1:4]] == [f"some_{shape}.png" for shape in SHAPES]
    assert [row[1] for row in rows[1:4]] == list(SHAPES)
    assert sorted(p.name for p in (home / "explained").iterdir()) == [f"some_{shape}.png" for shape in SHAPES]


@pytest.mark.skipif(sys.platform == "win32", reason="no resource usage of children there")
def test_predicting_loads_little(trained, home):
    """No MLflow, no compiler, no Hydra: what makes a cold start slow."""
    code = (
        "import sys; from cnnforge.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'mlflow', 'numba', 'llvmlite', 'hydra', 'omegaconf', 'matplotlib', 'scipy', 'sklearn', 'rich'}; "
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}), file=sys.stderr); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "latest", "some_circle.png"], cwd=home, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    taken = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(f"{taken:.2f} s of CPU, to be below {MOST} on an idle machine")
