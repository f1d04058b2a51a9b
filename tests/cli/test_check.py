"""``cnnforge check``: the table and the numbers as golden files, warnings, and that no config crashes it.

When the output changes on purpose: ``cnnforge check model=lenet > tests/golden/check_lenet.txt``, likewise with
``--json`` for ``check_lenet.json``, both with XDG_CACHE_HOME at an empty folder, and look at the difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.cli.main import main
from tests.cores import two_cores

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
LENET = (ROOT / "configs" / "model" / "lenet.yaml").read_text()


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """In the checkout, on a machine of two cores that has not been measured."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with two_cores():
        yield


def test_lenet_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=lenet"]) == 0
    assert capsys.readouterr() == ((GOLDEN / "check_lenet.txt").read_text(), "")


def test_lenet_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=lenet", "--json"]) == 0
    assert capsys.readouterr() == ((GOLDEN / "check_lenet.json").read_text(), "")


def test_the_courses_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "model=lenet", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["params"], report["trainable_params"], report["macs"]) == (62_006, 62_006, 651_720)
    assert [(row["name"], tuple(row["output"]), row["params"]) for row in report["layers"]] == [
        ("conv1", (28, 28, 6), 456),
        ("pool1", (14, 14, 6), 0),
        ("conv2", (10, 10, 16), 2416),
        ("pool2", (5, 5, 16), 0),
        ("flatten", (400,), 0),
        ("fc3", (120,), 48_120),
        ("fc4", (84,), 10_164),
        ("output", (10,), 850),
    ]
    assert list(report) == ["model", "input", "layers", "params", "trainable_params", "macs", "memory"]
    assert list(report["memory"]) == ["params", "gradients", "optimizer", "activations", "workspace", "total"]


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=lenet", "model.layers.pool2.kernel=11"]) == 2
    assert capsys.readouterr() == (
        "",
        "pool2: a 11x11 window does not fit a 10x10 input\n"
        "  where: configs/model/lenet.yaml:9:3 with <override 'model.layers.pool2.kernel=11'> (model.layers.pool2), "
        "input (10, 10, 16)\n  why:   10 + 2*0 < 11\n"
        "  fix:   kernel <= 10, or padding: same, or one pool fewer before it\n",
    )


def test_data_that_was_not_named_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=cat_detector"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("cat_detector: 64x64x3 input\n")
    assert err == (
        "\nwarning: data=digits does not suit cat_detector: output: 1 sigmoid unit for 10 classes [class-count]\n"
        "  where: configs/model/cat_detector.yaml:11:3 (model.layers.output)\n"
        "  why:   one sigmoid unit answers one yes-or-no question: 2 classes\n"
        "  fix:   name the data that is meant (data=…); for digits: units: 10 with activation: softmax, or data of 2 "
        "classes\n"
    )
    assert main(["check", "model=cat_detector", "data=digits"]) == 2
    assert main(["check", "model=cat_detector", "data.test=0.5"]) == 2
    assert main(["check", "experiment=lenet_mnist", "model=cat_detector"]) == 2
    assert main(["check", "model=cat_detector", "data=synthetic", "data.classes=2", "--strict"]) == 0


PAIR = (
    "fc3: nothing but linear layers up to fc4 [linear-pair]\n"
    "  where: configs/model/lenet.yaml:10:3 with <override 'model.layers.fc3.activation=none'> (model.layers.fc3)\n"
    "  why:   two linear layers in a row compute no more than one does\n"
    "  fix:   activation: relu in fc3\n"
)


def test_warnings_stand_behind_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.layers.fc3.activation=none"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("lenet: 32x32x3 input\n")
    assert err == f"\nwarning: {PAIR}"


def test_warnings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.layers.fc3.activation=none", "--json"]) == 0
    out, err = capsys.readouterr()
    (warning,) = json.loads(out)["warnings"]
    assert list(warning) == ["what", "where", "why", "fix", "rule"]
    assert (warning["what"], warning["rule"]) == ("fc3: nothing but linear layers up to fc4", "linear-pair")
    assert err == ""


def test_strict_makes_warnings_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.layers.fc3.activation=none", "--strict"]) == 2
    assert capsys.readouterr() == ("", PAIR)
    assert main(["check", "model.layers.fc3.activation=none", "--strict", "--json"]) == 2
    (error,) = json.loads(capsys.readouterr().out)
    assert error["rule"] == "linear-pair"
    assert main(["check", "--strict"]) == 0


def test_train_says_warnings_first_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["data=synthetic", "data.samples=64", "data.test_samples=16", "trainer.max_steps=1", "tracking=none"]
    assert main(["train", *small, f"run.dir={tmp_path}", "model.layers.fc3.activation=none"]) == 0
    assert capsys.readouterr().out.startswith(f"warning: {PAIR}\n")


def test_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "\nplan for backend numba, 64 samples of float32: arena " in out
    assert "\nforward (native)\n  conv2d+max_pool2d+bias+relu" in out
    assert " adam " in out


def test_the_plan_of_lenet_stays_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "model=lenet", "--plan"])
    lines = capsys.readouterr().out.split("\nplan for ")[1].split("\n")
    at = lines[2].index("writes")
    assert {line[at : at + 6].strip() for line in lines[3:] if line.startswith("  ")} == {"arena", "grads", "params"}


def test_time(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["check", "model=lenet", "trainer.batch_size=2", "trainer.backend=numpy"]
    main(small)
    assert capsys.readouterr().out.endswith(
        "\ntraining time: not measured on this machine; cnnforge check --time does it once\n"
    )
    main([*small, "--time"])
    said = capsys.readouterr().out
    assert "\ntraining time " in said
    assert said.endswith("s an epoch of 1,294 samples\n  (as measured on this machine; 5% for data included, "
                         "validation not)\n")  # fmt: skip
    main(small)
    assert capsys.readouterr().out == said
    main([*small, "--json"])
    assert "time" not in json.loads(capsys.readouterr().out)
    main([*small, "--json", "--time"])
    time = json.loads(capsys.readouterr().out)["time"]
    assert list(time) == [
        "step_seconds", "batch", "measured_batch", "samples", "epoch_seconds", "seconds_per_1000_samples",
    ]  # fmt: skip
    assert (time["batch"], time["measured_batch"], time["samples"]) == (2, 2, 1294)
    assert time["epoch_seconds"] == pytest.approx(1.05 * 1294 / 2 * time["step_seconds"])


def test_a_cache_that_cannot_be_used_is_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cnnforge").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["check", "model=lenet", "trainer.batch_size=2", "trainer.backend=numpy", "--time"]) == 0
    out, err = capsys.readouterr()
    assert "training time " in out
    assert err.count("\n") == err.count("note: the measured times ") == 2


def test_wide(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "model=lenet", "--wide", "--versus-fc"])
    lines = capsys.readouterr().out.split("\n")
    assert lines[2].endswith("receptive field  jump  offset   bytes                 vs fc")
    assert lines[4].endswith("5x5     1     2.5  18,816  14,455,392 (31,700x)  relu")
    main(["check", "model=lenet", "--versus-fc", "--json"])
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert [row["fc_params"] for row in rows[:2]] == [14_455_392, None]


def test_the_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "model=lenet", "--plan", "--json"])
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["calls"][0]["kernel"] == "conv2d+max_pool2d+bias+relu"
    assert plan["calls"][-1] | {"reads": [], "writes": [], "workspace": []} == {
        "phase": "update", "kind": "native", "kernel": "adam", "layer": "optimizer", "reads": [], "writes": [],
        "workspace": [],
    }  # fmt: skip
    ends = [v["offset"] for call in plan["calls"] for v in call["writes"] if v["buffer"] == "arena"]
    assert max(ends) < plan["buffers"]["arena"]


def test_depth(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=lenet", "--depth", "0"]) == 2
    assert capsys.readouterr().err.startswith("argument --depth: '0' is not a whole number above 0\n")
    main(["check", "model=lenet"])
    whole = capsys.readouterr().out
    main(["check", "model=lenet", "--depth", "1"])
    assert capsys.readouterr().out == whole


def test_models_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Overrides may stand behind the models; those of the first model are its own."""
    words = ["check", "model=lenet", "model.layers.conv1.filters=12", "--compare", "lenet5", "lenet", "optimizer=sgd"]
    assert main(words) == 0
    lines = capsys.readouterr().out.split("\n")
    assert [line.split()[0] for line in lines[2:5]] == ["lenet", "lenet5", "lenet"]
    assert lines[2].split()[3] != lines[4].split()[3] == "62,006"
    assert lines[-2] == "memory of training with batch 64, float32, sgd"
    main([*words, "--json"])
    reports = json.loads(capsys.readouterr().out)
    assert [report["model"] for report in reports] == ["lenet", "lenet5", "lenet"]
    assert all(report["memory"]["optimizer"] == 0 for report in reports)


def test_mistakes_of_every_model_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "check",
        "model=lenet",
        "model.layers.pool2.kernel=11",
        "--compare",
        "lenet5",
        "nowhere",
        "optimizer.lr=-1",
    ]
    assert main([*words, "--json"]) == 2
    whats = [error["what"] for error in json.loads(capsys.readouterr().out)]
    assert len(whats) == len(set(whats)) == 3, whats


def test_a_comparison_with_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--compare", "optimizer=sgd"]) == 2
    assert capsys.readouterr().err == (
        "--compare names no model\n"
        "  where: cnnforge check --compare\n"
        "  why:   optimizer=sgd is an override, not a model's name\n"
        "  fix:   --compare lenet5, with the names of models as in model=NAME\n"
    )


def test_the_note_about_data_names_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--compare", "cat_detector"])
    err = capsys.readouterr().err
    assert err.startswith(
        "\nwarning: data=digits does not suit cat_detector: output: 1 sigmoid unit for 10 classes [class-count]\n"
    )
    assert err.count("warning: ") == 1


def test_a_backend_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "trainer.precision=float16"]) == 2
    assert capsys.readouterr().err == (
        "backend numba does not compute in float16\n"
        "  where: trainer.precision\n"
        "  why:   it has float32, float64\n"
        "  fix:   trainer.backend=cupy, which needs an NVIDIA GPU, or trainer.precision=float32\n"
    )


def test_a_precision_of_a_gpu_is_checked_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "trainer.precision=bfloat16", "trainer.backend=cupy"]) == 0
    means = "bfloat16: activations in 2 bytes, weights, gradients and slots in 4 (master weights)"
    assert means in capsys.readouterr().out.splitlines()
    assert main(["check", "trainer.precision=float16", "trainer.backend=cupy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"]["loss_scaled"] is True


# fmt: off
PIECES = st.sampled_from([
    "", " ", "\n", "\t", ":", "-", "[", "]", "{", "}", "&a ", "*a", "yes", "012", "1e3", "0", "-1", "99999", "'", '"',
    "#", "~", "conv", "fc", "pool", "softmax", "type: fc", ", kernel: 3", "${model.name}", "${x}", "???", "é", "\x07",
    "!!x ",
])
KEYS = st.sampled_from([
    "model", "model.layers", "model.layers.conv1", "model.layers.conv1.kernel", "model.input", "model.loss", "seed",
    "data", "optimizer", "optimizer.lr", "experiment", "x.y", "model.layers.new",
])
VALUES = st.sampled_from([
    "", "=lenet", "=1", "=-1", "=[1,2]", "={type: fc, units: 3}", "=null", "=[", "=${model.name}", "=a,b", "=lenet5",
    "=0.5", "='x'", "=same", "={}",
])
# fmt: on
EDITS = st.lists(st.tuples(st.integers(0, len(LENET)), st.integers(0, 12), PIECES), min_size=1, max_size=4)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_no_edit_of_lenet_crashes(
    edits: list[tuple[int, int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LENET
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    (tmp_path / "model").mkdir(exist_ok=True)
    file = tmp_path / "model" / "mutant.yaml"
    file.write_text(text, encoding="utf-8")
    code = main(["check", "model=mutant", "--config-dir", str(tmp_path), "--json"])
    out, err = capsys.readouterr()
    assert code in (0, 2), f"{text}\n{err}"
    if code == 2:
        for error in json.loads(out):
            assert error["what"]
            assert error["why"], error
            assert error["fix"], error
            assert error["where"].startswith(str(file)), error


OVERRIDES = st.lists(
    st.tuples(st.sampled_from(["", "+", "++", "~"]), KEYS, VALUES).map("".join), min_size=1, max_size=3
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overrides=OVERRIDES)
def test_no_override_crashes(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "--json", *overrides])
    out, _ = capsys.readouterr()
    assert code in (0, 2), overrides
    if code == 2:
        assert all(error["what"] and error["where"] and error["why"] and error["fix"] for error in json.loads(out)), out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_marks_point_at_the_line(data: st.DataObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever layer is given a key that nobody knows, the error names its line and column."""
    lines = LENET.rstrip().split("\n")
    number = data.draw(st.integers(next(i for i, line in enumerate(lines) if "conv1" in line), len(lines) - 1))
    comments = data.draw(st.lists(st.sampled_from(["# a comment", ""]), max_size=3))
    edited = [*lines[:number], *comments, lines[number].replace("{", "{bogus: 1, "), *lines[number + 1 :]]
    (tmp_path / "model").mkdir(exist_ok=True)
    file = tmp_path / "model" / "marked.yaml"
    file.write_text("\n".join(edited) + "\n")
    assert main(["check", "model=marked", "--config-dir", str(tmp_path), "--json"]) == 2
    (error,) = json.loads(capsys.readouterr().out)
    layer = lines[number].split(":")[0].strip()
    line, column = number + len(comments) + 1, edited[number + len(comments)].index("bogus") + 1
    assert error["what"] == f"{layer}: unknown key 'bogus'"
    assert error["where"] == f"{file}:{line}:{column} (model.layers.{layer}.bogus)"
