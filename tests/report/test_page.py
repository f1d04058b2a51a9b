"""The page and the pictures of a report, from facts made by hand."""

from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cnnforge.report.facts import Activity, Filters, Mistake, RunFacts, Score, Seen, Verdict
from cnnforge.report.page import MOST_ROWS, page, write
from cnnforge.report.plots import charts
from cnnforge.report.tiles import filter_sheet, fitted, maps_sheet
from cnnforge.spec import ModelSpec

MODEL = ModelSpec.model_validate(
    {"name": "small", "input": [8, 8, 1], "layers": {"conv1": {"type": "conv", "filters": 2, "kernel": 3}}}
)
BARE = RunFacts("run", "cut off", (), (), (), "the table", MODEL, {}, {}, {})
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (8, 8, 1), np.uint8)
VOID = frozenset({"meta", "img", "br"})
FULL = RunFacts(
    name="lenet & <co>", status="finished", headline=(("test accuracy", "97.50%"),), about=(("model", "lenet"),),
    commands=(("cnnforge report x", "makes it again"),), table="conv1 <conv>", model=MODEL,
    epochs={"train_loss": [(1, 2.0), (2, 1.0)], "val_loss": [(1, 2.1), (2, 1.2)], "train_accuracy": [(1, 0.1)],
            "test_loss": [(2, 1.1)], "test_accuracy": [(2, 0.5)]},
    steps={"train_loss": [(i, 1 / i) for i in range(1, 3000)], "lr": [(1, 0.1), (3000, 0.0)]},
    layers={"grad_norm": {"conv1.w": [(1, 0.1), (2, 0.2)]}, "dead": {"conv1": [(1, 0.0), (2, 0.5)]}},
    verdict=Verdict("test", 4, {"accuracy": "50%"}, ("a", "<b>"), ("precision", "recall", "F1"),
                    (Score("a", (0.5, 0.5, 0.5), 2), Score("<b>", (0.5, 0.5, 0.5), 2)), np.array([[1, 1], [1, 1]]),
                    yes=(np.array([0.1, 0.9]), np.array([0, 1]))),
    mistakes=(Mistake(PICTURE, 7, "a", ("<b> 99.0%", "a 1.0%")),),
    filters=Filters("conv1", RNG.normal(size=(5, 5, 1, 6)), RNG.normal(size=(5, 5, 1, 6))),
    seen=(Seen(PICTURE, "sample 0: a", [("conv1", RNG.normal(size=(4, 4, 6)).astype(np.float32)),
                                        ("output", np.array([0.1, 0.9], np.float32))]),),
    activity=(Activity("conv1", "conv", (4, 4, 6), 0.1, 0.2, 0.5),), activity_samples=64,
    seconds={"training": 3.0, "waiting": 0.1}, memory={"params": 1024, "total": 1024}, notes=("mind <this>",),
)  # fmt: skip


class Page(HTMLParser):
    """A page's open tags, addresses, headings and text; complains where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.addresses, self.headings, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.stack == [], f"left open: {self.stack}"

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.stack.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.stack:
            self.text += data


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    made = write(FULL, tmp_path)
    assert made == [tmp_path / "report.html", tmp_path / "plots"]
    text = (tmp_path / "report.html").read_text("utf-8")
    found = Page(text)
    assert found.headings == [
        "Learning curves", "Answers", "Surest mistakes", "First filters, before and after", "What the layers see",
        "Layers during training", "Activations of the final model", "Time and memory", "Model", "Commands",
    ]  # fmt: skip
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in found.addresses)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    assert names == {
        "learning_curves.png", "confusion.png", "outputs.png", "layers.png", "split.png", "mistakes.png", "filters.png",
        "feature_maps_1.png", "model.png",
    }  # fmt: skip
    for file in (tmp_path / "plots").iterdir():
        with Image.open(file) as image:
            assert min(image.size) > 40, file


def test_names_are_text_and_not_markup():
    found = Page(page(FULL, {}))
    for words in ("lenet & <co>", "conv1 <conv>", "mind <this>", "<b> 99.0%"):
        assert words in found.text


def test_what_is_not_known_is_left_out(tmp_path):
    write(FULL, tmp_path)
    write(BARE, tmp_path)
    found = Page((tmp_path / "report.html").read_text("utf-8"))
    assert found.headings == ["Model", "Commands"]
    assert "cut off" in found.text
    assert [file.name for file in (tmp_path / "plots").iterdir()] == ["model.png"], "pictures of before are gone"


def test_long_tables_unfold():
    many = replace(BARE, activity=tuple(Activity(f"l{i}", "conv", (1,), 0.0, 0.0, 0.0) for i in range(MOST_ROWS + 5)))
    text = page(many, {})
    Page(text)
    assert "<summary>5 more</summary>" in text


@pytest.mark.parametrize("k", [2, 15, 30, 120])
def test_a_confusion_matrix_of_any_size(k):
    names = tuple(f"class number {i}" for i in range(k))
    verdict = Verdict("test", k, {}, names, ("precision", "recall", "F1"), (), np.eye(k, dtype=np.int64))
    with Image.open(BytesIO(charts(replace(BARE, verdict=verdict))["confusion"])) as image:
        assert max(image.size) < 2000


def test_a_regression_has_outputs_over_targets():
    numbers = RNG.normal(size=(50, 7))
    verdict = Verdict("test", 50, {}, tuple("abcdefg"), ("bias",), (), outputs=numbers, targets=numbers)
    assert set(charts(replace(BARE, verdict=verdict))) == {"outputs"}


@pytest.mark.parametrize("shape", [(5, 5, 1, 6), (3, 3, 3, 96), (3, 3, 16, 32), (11, 11, 2, 1), (64, 64, 3, 2)])
def test_filters_of_any_shape(shape):
    sheet = filter_sheet(RNG.normal(size=shape))
    assert (sheet.dtype, sheet.shape[2]) == (np.uint8, 3)
    assert max(sheet.shape) < 1400


def test_zero_is_grey_and_the_largest_weight_white():
    w = np.zeros((1, 1, 1, 2))
    w[..., 1] = 3.0
    sheet = filter_sheet(w)
    assert sheet[0, 0].tolist() == [127] * 3
    assert sheet[0, -1].tolist() == [255] * 3


@pytest.mark.parametrize("shape", [(28, 28, 6), (1, 1, 512), (10,), (1000,), (224, 200, 64), (3, 1, 2)])
def test_maps_of_any_shape(shape):
    sheet = maps_sheet(RNG.normal(size=shape).astype(np.float32))
    assert sheet.shape[2] == 3
    assert max(sheet.shape) < 2400


def test_maps_of_a_dead_or_broken_layer():
    assert maps_sheet(np.zeros((4, 4, 2), np.float32)).shape[2] == 3
    assert maps_sheet(np.full((3,), np.nan, np.float32)).shape[2] == 3


@pytest.mark.parametrize("shape", [(8, 8, 1), (500, 375, 3), (96, 96, 3)])
def test_pictures_are_fitted(shape):
    fit = fitted(np.zeros(shape, np.uint8), 96)
    assert 96 <= min(fit.shape[:2]) < 2 * 96
