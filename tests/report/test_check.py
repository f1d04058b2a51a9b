"""``cnnforge.check``: rows, totals, memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cnnforge
from cnnforge.config import compose, validate
from cnnforge.errors import BackendError, ConfigErrors
from cnnforge.report.check import check, plan_of

ROOT = Path(__file__).parents[2]
LENET = ROOT / "configs" / "model" / "lenet.yaml"
TREE = {
    "name": "net",
    "input": [6, 6, 1],
    "layers": {
        "conv": {"type": "conv", "filters": 2, "kernel": 3, "trainable": False},
        "bn": {"type": "batch_norm"},
        "out": {"type": "fc", "units": 2, "activation": "softmax"},
    },
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_public_name_and_ways_to_give_a_spec() -> None:
    assert cnnforge.check is check
    run = validate(compose(["model=lenet"]))
    reports = [check(source) for source in (LENET, str(LENET), LENET.read_text(), run.model, run)]
    assert len({str(report) for report in reports}) == 1
    assert (reports[0].params, reports[0].macs, reports[0].weighted_layers) == (62_006, 651_720, 5)


def test_frozen_layers_and_totals() -> None:
    report = check(TREE)
    assert [row.name for row in report.rows] == ["conv", "bn", "flatten", "out"]
    assert (report.params, report.trainable_params, report.weighted_layers) == (20 + 4 + 66, 4 + 66, 2)
    assert report.loss == "softmax_cross_entropy"


def test_memory_is_what_the_plan_places() -> None:
    run = validate(compose(["model=lenet", "trainer.batch_size=8", "optimizer=momentum", "trainer.precision=float64"]))
    report, plan = check(run), plan_of(run)
    assert (report.batch_size, report.precision, report.optimizer) == (8, "float64", "sgd")
    assert report.memory["params"] == report.memory["gradients"] == report.memory["optimizer"] == 62_006 * 8
    assert report.memory["total"] == sum(plan.sizes.values())
    assert report.memory["total"] == sum(n for name, n in report.memory.items() if name != "total")


def test_json_memory_adds_up_under_its_six_names() -> None:
    memory = check(TREE).to_json()["memory"]
    assert list(memory) == ["params", "gradients", "optimizer", "activations", "workspace", "total"]
    assert memory["total"] == sum(n for name, n in memory.items() if name != "total")


def test_json_of_a_layer() -> None:
    assert check(LENET).to_json()["layers"][2] == {
        "name": "conv2",
        "type": "conv",
        "output": [10, 10, 16],
        "activation_size": 1600,
        "activation_bytes": 6400,
        "params": 2416,
        "macs": 240_000,
        "receptive_field": [14, 14],
        "stride": [2, 2],
        "offset": [7.0, 7.0],
    }


def test_the_centre_of_the_first_output_in_pixels() -> None:
    """A first 5x5 window is centred on the third pixel; behind a padded one, on the first. An fc sees the whole."""
    layers = check(LENET).to_json()["layers"]
    assert [row["offset"][0] for row in layers] == [2.5, 3.0, 7.0, 8.0, 8.0, 16.0, 16.0, 16.0]
    tree = {**TREE, "layers": {"c": {"type": "conv", "filters": 2, "kernel": [5, 3], "padding": "same"}}}
    (row,) = check(tree).to_json()["layers"]
    assert (row["offset"], row["stride"]) == ([0.5, 0.5], [1, 1])


def test_outputs_between_pixels() -> None:
    """Behind a transposed convolution of stride 2 outputs lie half a pixel apart, the first in a quarter of one."""
    tree = {**TREE, "layers": {"up": {"type": "conv_transpose", "filters": 2, "kernel": 2, "stride": 2}}}
    (row,) = json.loads(json.dumps(check(tree).to_json()))["layers"]
    assert (row["stride"], row["offset"]) == ([0.5, 0.5], [0.25, 0.25])


def test_activation_bytes_are_of_the_runs_precision() -> None:
    run = validate(compose(["model=lenet", "trainer.precision=float64"]))
    assert check(run).to_json()["layers"][0]["activation_bytes"] == 8 * 4704


def test_the_fc_in_place_of_a_convolution() -> None:
    """The course's example: 32x32x3 -> 28x28x6 takes 456 parameters, or 14 million."""
    layers = check(LENET).to_json(versus_fc=True)["layers"]
    assert [row["fc_params"] for row in layers[:3]] == [14_450_688 + 4704, None, 14 * 14 * 6 * 1600 + 1600]
    tree = {**TREE, "layers": {"c": {"type": "conv", "filters": 2, "kernel": 3, "bias": False}}}
    assert [row["fc_params"] for row in check(tree).to_json(versus_fc=True)["layers"]] == [6 * 6 * (4 * 4 * 2)]


def test_mistakes() -> None:
    with pytest.raises(ConfigErrors, match="no layers"):
        check({"name": "n", "input": [1, 1, 1], "layers": {}})
    with pytest.raises(BackendError):
        check(validate(compose(["trainer.precision=float16"])))


@pytest.mark.parametrize(
    ("precision", "means", "bytes_each"),
    [
        ("tf32", "everything in 4 bytes, factors of products rounded to 10 bits of mantissa", 4),
        ("bfloat16", "activations in 2 bytes, weights, gradients and slots in 4 (master weights)", 2),
        ("float16", "activations in 2 bytes, weights, gradients and slots in 4 (master weights), loss scaled", 2),
    ],
)
def test_what_a_precision_means_is_said(precision: str, means: str, bytes_each: int) -> None:
    report = check(validate(compose(["model=lenet", f"trainer.precision={precision}", "trainer.backend=cupy"])))
    lines = str(report).splitlines()
    assert lines[-2:] == [f"  (batch 64, {precision}, adam)", f"{precision}: {means}"]
    made = report.to_json()
    assert made["layers"][0]["activation_bytes"] == 28 * 28 * 6 * bytes_each
    assert made["memory"]["params"] == made["memory"]["gradients"] == 62_006 * 4
    assert made["precision"] == {
        "name": precision, "activations": precision if bytes_each == 2 else "float32", "weights": "float32",
        "loss_scaled": precision == "float16", "about": means,
    }  # fmt: skip


def test_a_precision_whose_name_says_it_all_is_only_named() -> None:
    report = check(LENET)
    assert str(report).endswith("  (batch 64, float32, adam)")
    assert "precision" not in report.to_json()
