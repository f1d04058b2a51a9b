"""Files found, read and answered."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cnnforge.data.adapt import Adaptation
from cnnforge.data.pictures import Form
from cnnforge.data.preprocess import Preprocessing
from cnnforge.errors import DataError
from cnnforge.inference import predict
from cnnforge.inference.predict import Answer, answers, class_names, for_many, load, picture_files, says_yes, task
from cnnforge.model import Model

NET = {
    "name": "net",
    "input": [8, 8, 3],
    "layers": {
        "conv1": {"type": "conv", "filters": 4, "kernel": 3, "activation": "relu"},
        "out": {"type": "fc", "units": 3, "activation": "softmax"},
    },
}
MADE = Preprocessing(
    Adaptation((8, 8, 3), 3, "bilinear"), "uint8", (100.0, 110.0, 120.0), (50.0, 60.0, 70.0), Form((12, 16), "crop", 3)
)


def net(**last) -> Model:
    layers = NET["layers"] | {"out": NET["layers"]["out"] | last}
    model = Model(NET | {"layers": layers}, "numpy", seed=3)
    model.preprocessing = MADE
    return model


def png(seed: int, size=(12, 16)) -> bytes:
    stream = io.BytesIO()
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def no_stdin() -> bytes:
    raise AssertionError("nobody asked for it")


def ask(model, *files, stdin=no_stdin):
    return list(answers(model, picture_files([str(f) for f in files]), stdin))


def test_an_answer_is_what_the_model_says_of_the_picture(tmp_path):
    model = net()
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    found = ask(model, tmp_path)
    raw = np.stack([MADE.decode(png(i)) for i in range(5)])
    assert [answer.file for answer in found] == [str(tmp_path / f"{i}.png") for i in range(5)]
    np.testing.assert_array_equal(np.stack([a.picture for a in found]), MADE.apply(raw))
    np.testing.assert_allclose(np.stack([a.values for a in found]), model.predict(MADE.apply(raw)), rtol=1e-6)


def test_pieces_change_nothing(tmp_path, monkeypatch):
    model = net()
    for i in range(7):
        (tmp_path / f"{i}.png").write_bytes(b"broken" if i in (2, 3) else png(i))
    whole = ask(model, tmp_path)
    monkeypatch.setattr(predict, "PIECE", 2 * 8 * 8 * 3)
    pieces = ask(model, tmp_path)
    assert [(a.file, a.trouble) for a in pieces] == [(a.file, a.trouble) for a in whole]
    for one, other in zip(whole, pieces, strict=True):
        if one.values is not None:
            np.testing.assert_allclose(one.values, other.values, rtol=1e-6)


def test_folders_are_walked_in_order_and_what_is_named_is_tried(tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a/z/1.jpeg", "a.png", ".hidden/1.png", "notes.txt", ".x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    found = list(picture_files([str(tmp_path), "-", str(tmp_path / "notes.txt"), str(tmp_path / "empty"), "gone.png"]))
    assert [answer.file for answer in found] == [
        *(str(tmp_path / name) for name in ("a.png", "a/z/1.jpeg", "b/10.PNG", "b/2.png")),
        "-", str(tmp_path / "notes.txt"), str(tmp_path / "empty"), "gone.png",
    ]  # fmt: skip
    assert [bool(answer.trouble) for answer in found] == [False] * 6 + [True, False]
    assert found[6].trouble.startswith("a folder without pictures; their names end in .png, .jpg")


def test_what_is_wrong_with_a_file_is_said_and_the_others_go_on(tmp_path):
    good = png(1)
    files = {"cut.png": good[:120], "good.png": good, "text.png": b"no picture", "empty.png": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = ask(net(), *(tmp_path / name for name in files), tmp_path / "gone.png")
    assert [answer.values is None for answer in found] == [True, False, True, True, True]
    troubles = [answer.trouble for answer in found]
    assert troubles[0].startswith("damaged: ")
    assert troubles[1:] == ["", *["no picture of a known format"] * 2, "No such file or directory"]


@pytest.mark.parametrize("safe", [100, 10])
def test_a_picture_of_too_many_pixels_is_refused(safe, tmp_path, monkeypatch):
    """Pillow warns of more than are safe, and refuses twice that."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", safe)
    (tmp_path / "bomb.png").write_bytes(png(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (answer,) = ask(net(), tmp_path / "bomb.png")
    assert answer.trouble == "more pixels than are safe"


def test_standard_input():
    (answer,) = ask(net(), "-", stdin=lambda: png(4))
    assert (answer.file, answer.trouble) == ("-", "")


def test_what_is_asked():
    assert task(net()) == "classes"
    assert task(net(units=1, activation="sigmoid")) == "yes_or_no"
    assert task(net(units=4, activation="sigmoid")) == "tags"
    assert task(net(activation="none")) == "numbers"
    no_fc = {
        "conv1": NET["layers"]["conv1"],
        "out": {"type": "conv", "filters": 3, "kernel": 1, "activation": "softmax"},
    }
    with pytest.raises(DataError, match="gives a volume") as raised:
        task(Model(NET | {"layers": no_fc}, "numpy"))
    assert raised.value.why == "its output is 6x6x3"


def test_names():
    model = net()
    assert class_names(model) == ("0", "1", "2")
    model.classes = ("cat", "dog", "eel")
    assert class_names(model) == model.classes
    yes = net(units=1, activation="sigmoid")
    assert class_names(yes) == ("yes",)
    yes.classes = ("other", "cat")
    assert class_names(yes) == ("cat",)


def test_ranks_and_yes():
    answer = Answer("a", np.array([0.2, 0.4, 0.4]))
    assert answer.ranked(2) == [(1, 0.4), (2, 0.4)]
    assert len(answer.ranked(10)) == 3
    assert [says_yes(Answer("a", np.array([p]))) for p in (0.4, 0.5, 0.6)] == [False, False, True]


def test_models_that_take_no_files(tmp_path):
    for made, why in (
        (None, "it was not trained by a run"),
        (replace(MADE, form=None), "it was trained on arrays that are no 8-bit pictures of one or three channels"),
        (
            replace(MADE, pixels="float32"),
            "it was trained on arrays that are no 8-bit pictures of one or three channels",
        ),
    ):
        model = net()
        model.preprocessing = made
        model.save(tmp_path / "saved")
        with pytest.raises(DataError) as raised:
            load(tmp_path / "saved", 1)
        assert raised.value.what == "model net does not take picture files"
        assert raised.value.why == why
        assert raised.value.fix == "give it arrays, in Python: Model.predict"


def test_few_pictures_do_not_wait_for_the_compiled_backend(tmp_path, monkeypatch):
    net().save(tmp_path / "saved")
    assert load(tmp_path / "saved", 1)._backend.name == "numpy"
    monkeypatch.setattr(predict, "FEW", 0)
    assert load(tmp_path / "saved", 1)._backend.name != "numpy"
    double = Model(NET, "numpy", "float64")
    assert for_many(double, tmp_path / "saved", 100) is double
