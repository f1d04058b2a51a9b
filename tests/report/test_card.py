"""The model card: what it says, and that it fits where MLflow keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnforge.config import compose, validate
from cnnforge.report.card import LENGTH, MOST_LAYERS, card
from cnnforge.tracking.entries import TAG_LENGTH

RESULT = {
    "status": "finished", "test_accuracy": 0.97772, "test_loss": 0.07, "best_val_accuracy": 0.99, "epochs": 10,
    "wall_seconds": 14.2, "samples_per_second": 5000.0, "peak_memory_bytes": 123456789,
}  # fmt: skip
DATA = {"name": "digits", "digest": "ab" * 32, "splits": {"train": 1294, "test": 359}, "classes": 10}
ZOO = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "model").glob("*.yaml"))


def test_it_says_what_was_trained_and_what_came_of_it() -> None:
    text = card(validate(compose(["model=lenet"])), RESULT, DATA, folder="runs/lenet-digits")
    assert text.startswith(
        "**lenet** on **digits**: 97.77% of 359 test pictures right. "
        "A convolutional network of 62,006 parameters that takes 32x32x3 pictures.\n\n```text\nlayer    type "
    )
    assert "\nconv2    conv     10x10x16  5  1  0       2,416  240,000  relu\n" in text
    assert "\nepochs (finished)         10 in 14.2 s, 5,000 samples/s\n" in text
    assert "**digits**: 1,294 train, 359 test samples, 10 classes. Digest `abababababababab`." in text
    assert "adam, learning rate 0.001, schedule constant; 10 epochs of batches of 64" in text
    assert 'cnnforge.Model.load("runs/lenet-digits")' in text
    assert 'mlflow.pyfunc.load_model("runs:/RUN_ID/model")' in text
    assert "cnnforge reproduce runs/lenet-digits\n" in text
    assert "![" not in text


def test_pictures_and_no_results() -> None:
    spec = validate(compose(["model=lenet", "tracking.log_model=false"]))
    pictures, links = {"Curves": "plots/curves.png"}, {"Confusion": "plots/confusion.png"}
    text = card(spec, {}, {}, folder="r", diagram="model.png", pictures=pictures, links=links)
    assert text.endswith("\n\nMore pictures: [Confusion](plots/confusion.png)\n")
    assert text.index("![lenet](model.png)") < text.index("layer  ") < text.index("![Curves](plots/curves.png)")
    assert text.startswith("**lenet**. A convolutional")
    assert "### Results" not in text
    assert "### Data" not in text
    assert "mlflow" not in text


@pytest.mark.parametrize("model", ZOO)
def test_every_net_fits(model: str) -> None:
    spec = validate(compose([f"model={model}"]), match_data=False)
    text = card(spec, RESULT, DATA, folder="runs/" + "long-name-" * 20, pictures={"a": "plots/a.png"})
    assert len(text) <= LENGTH < TAG_LENGTH
    table = text.split("```text\n")[1].split("```")[0].splitlines()
    assert len(table) <= MOST_LAYERS + 2
    assert table[-1].split()[1] == f"{sum(row.param_count for row in spec.model.table):,}"
