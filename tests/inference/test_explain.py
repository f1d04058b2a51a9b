"""What mattered: on nets whose answer is known to hang on one place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnforge.data.adapt import Adaptation
from cnnforge.data.pictures import Form
from cnnforge.data.preprocess import Preprocessing
from cnnforge.inference.explain import Question, _last_volume, _squares, asked, draw, explain, grad_cam, occlusion, said
from cnnforge.inference.predict import Answer
from cnnforge.model import Model
from cnnforge.spec import ModelSpec

RNG = np.random.default_rng(5)


def net(layers, size=12, channels=1, seed=0, precision="float64"):
    return Model({"name": "net", "input": [size, size, channels], "layers": layers}, "numpy", precision, seed)


def bright_spot(size=20, at=(14, 5)):
    """A net that says yes where one spot of the picture is bright, and a picture in which it is."""
    model = net({"out": {"type": "fc", "units": 1, "activation": "sigmoid"}}, size)
    w = np.zeros((size, size))
    w[at] = 5
    model.params["out.w"], model.params["out.b"] = w.reshape(-1, 1), np.array([-2.0])
    picture = np.zeros((size, size, 1))
    picture[at] = 1
    return model, picture


def test_hiding_finds_the_spot():
    model, picture = bright_spot()
    heat, most = occlusion(model, picture, Question(0))
    whole, hidden = (1 / (1 + np.exp(2 - 5 * v)) for v in (1.0, 1 / 400))
    assert most == pytest.approx(whole - hidden)
    assert heat[14, 5] == pytest.approx(most), "every square that hides it costs that"
    assert heat.max() == pytest.approx(most)
    assert abs(heat[:9]).max() < 1e-3 * most
    against, _ = occlusion(model, picture, Question(0, -1))
    np.testing.assert_allclose(against, -heat)


@given(st.integers(1, 40), st.integers(1, 40))
def test_every_pixel_is_hidden_and_inner_ones_equally_often(height, width):
    often = np.zeros((height, width), int)
    for square in _squares(height, width):
        assert often[square].size
        often[square] += 1
    assert often.min() >= 1
    side = max(1, min(height, width) // 5)
    step = max(1, side // 2)
    if side % step == 0:
        assert len(np.unique(often)) == 1


def test_pieces_change_nothing(monkeypatch):
    model = net({"conv1": {"type": "conv", "filters": 3, "kernel": 3, "activation": "relu"},
                 "out": {"type": "fc", "units": 3, "activation": "softmax"}})  # fmt: skip
    picture = RNG.normal(size=(12, 12, 1))
    heat, _ = occlusion(model, picture, Question(1))
    monkeypatch.setattr("cnnforge.inference.explain.PIECE", 12 * 12 * 5)
    np.testing.assert_allclose(occlusion(model, picture, Question(1))[0], heat)


def test_grad_cam_of_a_net_with_global_pooling_is_its_class_activation_map():
    """Where the scores are w . mean(A) + b, the map is the sum of w_c A_c (Selvaraju and others, section 3.1)."""
    model = net({"conv1": {"type": "conv", "filters": 5, "kernel": 3, "padding": "same", "activation": "relu"},
                 "pool": {"type": "global_pool", "mode": "average"},
                 "drop": {"type": "dropout", "rate": 0.5},
                 "out": {"type": "fc", "units": 3, "activation": "softmax"}})  # fmt: skip
    picture = RNG.normal(size=(12, 12, 1))
    for number in range(3):
        for sign in (1, -1):
            slopes = sign * model.params["out.w"][:, number]
            expected = np.maximum(model.activations(picture[None])["conv1"][0] @ slopes, 0)
            expected /= expected.max() or 1
            np.testing.assert_allclose(grad_cam(model, picture, Question(number, sign)), expected, atol=1e-12)


def test_grad_cam_through_several_fc_is_what_differences_say():
    layers = {
        "conv1": {"type": "conv", "filters": 4, "kernel": 5, "activation": "relu"},
        "bn": {"type": "batch_norm"},
        "act": {"type": "activation", "function": "relu"},
        "pool": {"type": "pool", "kernel": 2, "mode": "average"},
        "fc1": {"type": "fc", "units": 6, "activation": "tanh"},
        "fc2": {"type": "fc", "units": 3},
        "out": {"type": "activation", "function": "softmax"},
    }
    model = net(layers, seed=2)
    picture = RNG.normal(size=(12, 12, 1))
    assert model.spec.table[_last_volume(model.spec) - 1].name == "act"
    volume = model.activations(picture[None])["act"][0]
    tail = Model({"input": [8, 8, 4], "layers": {k: layers[k] for k in ("pool", "fc1", "fc2")}}, "numpy", "float64")
    for name in tail.params:
        tail.params[name] = model.params[name]
    slopes = np.zeros(4)
    for c in range(4):
        for place in np.ndindex(8, 8):
            step = np.zeros_like(volume)
            step[(*place, c)] = 1e-6
            up, down = (tail.forward((volume + s * step)[None])[0, 1] for s in (1, -1))
            slopes[c] += (up - down) / 2e-6
    heat = np.maximum(volume @ slopes, 0)
    expected = heat / heat.max()
    found = grad_cam(model, picture, Question(1))
    assert found.shape == (12, 12)
    assert found.max() <= 1
    from cnnforge.data.resample import bilinear

    np.testing.assert_allclose(found, bilinear((8, 8), (12, 12))(expected[None, ..., None])[0, ..., 0], atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        {"out": {"type": "fc", "units": 3, "activation": "softmax"}},
        {"conv1": {"type": "conv", "filters": 3, "kernel": 12, "activation": "softmax"}},
        {"conv1": {"type": "conv", "filters": 3, "kernel": 12}, "out": {"type": "fc", "units": 3}},
        {"conv1": {"type": "conv", "filters": 3, "kernel": 3}, "fc1": {"type": "fc", "units": 3},
         "norm": {"type": "layer_norm"}, "out": {"type": "fc", "units": 3}},
    ],
)  # fmt: skip
def test_no_grad_cam_where_there_is_no_volume_to_look_at(layers):
    assert _last_volume(ModelSpec.model_validate({"name": "n", "input": [12, 12, 1], "layers": layers})) is None


def test_what_is_asked_of_an_answer():
    three = net({"out": {"type": "fc", "units": 3, "activation": "softmax"}})
    assert asked(three, Answer("a", np.array([0.2, 0.7, 0.1]))) == Question(1)
    one = net({"out": {"type": "fc", "units": 1, "activation": "sigmoid"}})
    assert asked(one, Answer("a", np.array([0.7]))) == Question(0)
    assert asked(one, Answer("a", np.array([0.3]))) == Question(0, -1)
    numbers = net({"out": {"type": "fc", "units": 2}})
    assert asked(numbers, Answer("a", np.array([-7.0, 3.0]))) == Question(0)


def test_the_number_in_words_is_that_of_the_answer():
    assert said("classes", "cat", 0.97, Question(0)) == "cat 97.0%"
    assert said("yes_or_no", "cat", 0.97, Question(0)) == "cat 97.0%"
    assert said("yes_or_no", "cat", 0.03, Question(0, -1)) == "not cat 97.0%"
    assert said("numbers", "0", 3.14159, Question(0)) == "output 3.142"


def test_a_drawing(tmp_path):
    model = net({"conv1": {"type": "conv", "filters": 4, "kernel": 3, "activation": "relu"},
                 "out": {"type": "fc", "units": 3, "activation": "softmax"}},
                channels=3, precision="float32")  # fmt: skip
    model.preprocessing = Preprocessing(
        Adaptation((12, 12, 3), 3, "bilinear"), "uint8", (100.0,) * 3, (50.0,) * 3, Form((12, 12), "crop", 3)
    )
    raw = RNG.integers(0, 256, (1, 12, 12, 3), dtype=np.uint8)
    x = model.preprocessing.apply(raw)[0]
    draw(tmp_path / "a.png", model, Answer("some/b.png", model.predict(x[None])[0].astype(np.float64), x))
    with Image.open(tmp_path / "a.png") as made:
        pixels = np.asarray(made)
    assert pixels.shape[1] >= 3 * 264
    # The picture as it is, each pixel a square of 22, below the title.
    np.testing.assert_array_equal(pixels[44 : 44 + 264 : 22, 12 : 12 + 264 : 22], raw[0])


def test_explaining_takes_both():
    model, picture = bright_spot()
    found = explain(model, picture, Question(0))
    assert found.grad_cam is None
    assert found.hidden.shape == (20, 20)
