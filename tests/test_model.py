"""The public Python face, used as its users would."""

import json

import numpy as np
import pytest

import cnnforge
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.errors import BackendError, CheckpointError, ConfigErrors, DataError
from cnnforge.tracking import Journal
from tests.backends.cupy.emulator import Emulator

TINY = {
    "name": "tiny",
    "input": [6, 6, 2],
    "layers": {
        "conv1": {"type": "conv", "filters": 4, "kernel": 3, "activation": "relu"},
        "bn1": {"type": "batch_norm"},
        "drop1": {"type": "dropout", "rate": 0.5},
        "output": {"type": "fc", "units": 3, "activation": "softmax"},
    },
}
YES_NO = TINY | {"layers": {"output": {"type": "fc", "units": 1, "activation": "sigmoid"}}}
MAP = {"name": "map", "input": [6, 6, 1], "layers": {"conv1": {"type": "conv", "filters": 2, "kernel": 3}}}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def batch(rng):
    return rng.normal(size=(8, 6, 6, 2)), rng.integers(0, 3, 8)


def test_names_of_params_and_state():
    model = cnnforge.Model(TINY)
    assert list(model.params) == ["conv1.w", "conv1.b", "bn1.gamma", "bn1.beta", "output.w", "output.b"]
    assert list(model.state) == ["bn1.mean", "bn1.var"]
    assert model.params["conv1.w"].shape == (3, 3, 2, 4)


def test_params_are_assignable(batch):
    model = cnnforge.Model(TINY)
    model.params["output.w"] = np.zeros((64, 3))
    model.params["output.b"] = [0.0, 0.0, np.log(2.0)]
    np.testing.assert_allclose(model.forward(batch[0]), np.tile([0.25, 0.25, 0.5], (8, 1)), rtol=1e-6)
    model.state["bn1.mean"] = np.ones(4)
    assert model.state["bn1.mean"].tolist() == [1, 1, 1, 1]


def test_activations_of_every_layer_are_those_of_the_table(batch):
    model = cnnforge.Model(TINY)
    model.state["bn1.mean"], model.state["bn1.var"] = [0.1, 0.2, 0.3, 0.4], [0.5, 1.0, 1.5, 2.0]
    found = model.activations(batch[0])
    assert {name: a.shape[1:] for name, a in found.items()} == {row.name: row.output for row in model.spec.table}
    normed = (found["conv1"] - model.state["bn1.mean"]) / np.sqrt(model.state["bn1.var"] + 1e-5)
    np.testing.assert_allclose(found["bn1"], normed, rtol=1e-4, atol=1e-5)
    assert found["conv1"].min() == 0.0
    np.testing.assert_allclose(found["output"], model.forward(batch[0]), rtol=1e-4, atol=1e-6)


def test_activations_are_computed_in_pieces_of_any_number(batch):
    model = cnnforge.Model(MAP)
    x = np.random.default_rng(1).normal(size=(600, 6, 6, 1))
    np.testing.assert_array_equal(model.activations(x)["conv1"][599:], model.activations(x[599:])["conv1"])
    assert model.activations(x[:0])["conv1"].shape == (0, 4, 4, 2)


def test_assigning_another_shape_is_refused():
    model = cnnforge.Model(TINY)
    with pytest.raises(DataError) as error:
        model.params["output.b"] = np.zeros(4)
    assert "output.b: an array of shape (4,)" in str(error.value)
    assert "has shape (3,)" in str(error.value)
    with pytest.raises(KeyError):
        model.params["nothing.w"] = np.zeros(3)


def test_forward_of_a_net_without_fc_is_a_picture(rng):
    model = cnnforge.Model(MAP)
    assert model.forward(rng.normal(size=(5, 6, 6, 1))).shape == (5, 4, 4, 2)


def test_forward_in_pieces_is_forward_of_the_whole(rng):
    model = cnnforge.Model(TINY)
    x = rng.normal(size=(600, 6, 6, 2))
    whole = model.forward(x)
    np.testing.assert_allclose(
        np.concatenate([model.forward(x[i : i + 7]) for i in range(0, 600, 7)]), whole, rtol=1e-5
    )
    assert model.forward(x[:0]).shape == (0, 3)


def test_training_forward_uses_the_batch_and_keeps_nothing(batch):
    model = cnnforge.Model(TINY)
    before = {name: a.copy() for name, a in model.state.items()}
    training = model.forward(batch[0], training=True)
    assert np.abs(training - model.forward(batch[0])).max() > 1e-3
    np.testing.assert_array_equal(training, model.forward(batch[0], training=True))
    for name, array in before.items():
        np.testing.assert_array_equal(model.state[name], array)


def test_loss_and_grads_is_pure(batch):
    model = cnnforge.Model(TINY, precision="float64")
    before = {name: a.copy() for name, a in {**model.params, **model.state}.items()}
    first = model.loss_and_grads(*batch, step=3)
    again = model.loss_and_grads(*batch, step=3)
    assert first[0] == again[0]
    for name, grad in first[1].items():
        np.testing.assert_array_equal(grad, again[1][name])
    for name, array in before.items():
        np.testing.assert_array_equal({**model.params, **model.state}[name], array)
    assert model.loss_and_grads(*batch, step=4)[0] != first[0], "the step decides dropout"


def test_loss_and_grads_are_means(batch):
    spec = {**TINY, "layers": {"output": TINY["layers"]["output"]}}
    model = cnnforge.Model(spec, precision="float64")
    x, y = batch
    loss, grads = model.loss_and_grads(x, y)
    twice, twice_grads = model.loss_and_grads(np.concatenate([x, x]), np.concatenate([y, y]))
    assert twice == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(twice_grads["output.w"], grads["output.w"], rtol=1e-10)


def test_another_loss_can_be_asked_for(batch):
    model = cnnforge.Model(TINY)
    x, _ = batch
    targets = np.zeros((8, 3))
    loss, _ = model.loss_and_grads(x, targets, loss="mse")
    assert loss == pytest.approx(float((model.forward(x, training=True) ** 2).mean()), rel=1e-5)
    with pytest.raises(ConfigErrors) as error:
        model.loss_and_grads(x, targets, loss="hinge")
    assert "unknown type 'hinge'" in str(error.value)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_one_sigmoid_unit_takes_labels_of_both_shapes(rng, shape):
    model = cnnforge.Model(YES_NO)
    x, y = rng.normal(size=(8, 6, 6, 2)), rng.integers(0, 2, shape)
    loss, _ = model.loss_and_grads(x, y)
    p = model.predict(x)[:, 0].astype(float)
    y = y.reshape(-1)
    assert loss == pytest.approx(float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()), rel=1e-4)


def test_predict_gives_probabilities_even_without_a_last_softmax(rng):
    spec = {**TINY, "loss": "softmax_cross_entropy", "layers": {"output": {"type": "fc", "units": 3}}}
    model = cnnforge.Model(spec)
    x = rng.normal(size=(4, 6, 6, 2))
    np.testing.assert_allclose(model.predict(x).sum(1), 1, rtol=1e-6)
    assert np.abs(model.forward(x).sum(1) - 1).max() > 1e-3


def test_fit_learns_and_is_reproducible(rng):
    x = rng.normal(size=(200, 6, 6, 2))
    y = (x[:, 0, 0, 0] > 0).astype(int) + (x[:, 1, 1, 1] > 1)
    models = [cnnforge.Model(TINY, seed=1) for _ in range(2)]
    histories = [model.fit(x, y, epochs=5, batch_size=32, optimizer={"type": "adam", "lr": 3e-3}) for model in models]
    assert histories[0][-1]["train_loss"] < histories[0][0]["train_loss"]
    assert len(histories[0]) == 5
    for name in models[0].params:
        np.testing.assert_array_equal(models[0].params[name], models[1].params[name])
    assert [h["train_loss"] for h in histories[0]] == [h["train_loss"] for h in histories[1]]


def test_fit_begins_with_fresh_optimizer_state(batch):
    model = cnnforge.Model(YES_NO)
    x, y = batch[0], batch[1] % 2
    start = {name: a.copy() for name, a in model.params.items()}
    ends = []
    for _ in range(2):
        for name, array in start.items():
            model.params[name] = array
        model.fit(x, y, batch_size=4, optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.9})
        ends.append(model.params["output.w"].copy())
    np.testing.assert_array_equal(*ends)


def test_the_seed_decides_the_weights():
    a, b, c = (cnnforge.Model(TINY, seed=seed).params["conv1.w"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01


def test_save_and_load(tmp_path, batch):
    model = cnnforge.Model(TINY, precision="float64", seed=3)
    model.fit(*batch, epochs=2)
    model.save(tmp_path / "saved")
    loaded = cnnforge.Model.load(tmp_path / "saved")
    assert loaded.spec == model.spec
    np.testing.assert_array_equal(loaded.predict(batch[0]), model.predict(batch[0]))
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["model.json", "model.safetensors"]


def test_saving_over_a_saved_model_replaces_it(tmp_path, batch):
    for seed in (0, 1):
        model = cnnforge.Model(TINY, seed=seed)
        model.save(tmp_path / "saved")
    np.testing.assert_array_equal(cnnforge.Model.load(tmp_path / "saved").params["conv1.w"], model.params["conv1.w"])
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_a_damaged_model_is_named(tmp_path):
    cnnforge.Model(TINY).save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        cnnforge.Model.load(tmp_path / "m")


def test_a_run_that_was_cut_before_its_first_checkpoint_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(tmp_path / "cut")
    with pytest.raises(CheckpointError) as error:
        cnnforge.Model.load("cut")
    assert str(error.value).endswith("why:   the run has not come to its first checkpoint\n  fix:   wait for it")
    journal.close()
    with pytest.raises(CheckpointError) as error:
        cnnforge.Model.load("cut")
    assert str(error.value) == (
        "no saved model in cut\n  where: cut\n  why:   the run ended before its first checkpoint\n"
        "  fix:   cnnforge resume cut goes on with it"
    )


def test_a_run_whose_checkpoints_are_gone_has_what_it_ended_with(tmp_path):
    cnnforge.Model(TINY, seed=3).save(tmp_path / "model")
    again = cnnforge.Model.load(tmp_path)
    np.testing.assert_array_equal(again.params["conv1.w"], cnnforge.Model(TINY, seed=3).params["conv1.w"])


def test_a_model_of_another_format_is_refused(tmp_path):
    cnnforge.Model(TINY).save(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError) as error:
        cnnforge.Model.load(tmp_path / "m")
    assert "format 99, expected 1" in str(error.value)
    with pytest.raises(CheckpointError, match="no saved model in"):
        cnnforge.Model.load(tmp_path)


@pytest.mark.parametrize(
    ("x", "labels", "said"),
    [
        (np.zeros((2, 2, 6, 6)), [0, 1], "x has shape (2, 2, 6, 6)"),
        (np.zeros((6, 6, 2)), [0], "it takes (N, 6, 6, 2)"),
        (np.zeros((2, 6, 6, 2)), [0, 1, 2], "labels have shape (3,)"),
        (np.zeros((2, 6, 6, 2)), [0, 3], "from 0 to 3"),
        (np.zeros((2, 6, 6, 2)), [0.0, 1.0], "labels are not class numbers"),
        (np.zeros((2, 6, 6, 2)), [-1, 1], "integers from 0 to 2"),
        (np.zeros((0, 6, 6, 2)), np.zeros(0, int), "no samples"),
    ],
)
def test_wrong_arrays_are_named(x, labels, said):
    with pytest.raises(DataError) as error:
        cnnforge.Model(TINY).loss_and_grads(x, labels)
    assert said in str(error.value)
    with pytest.raises(DataError):
        cnnforge.Model(TINY).fit(x, labels)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_what_a_gpu_computed_in_less_is_computed_in_float32_without_one(tmp_path, batch, precision, backend):
    model = cnnforge.Model(TINY, backend)
    model.save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": precision}))
    loaded = cnnforge.Model.load(tmp_path, backend)
    assert loaded.precision == "float32"
    np.testing.assert_array_equal(loaded.predict(batch[0]), model.predict(batch[0]))


def test_a_precision_that_nobody_has_is_no_reason_to_guess(tmp_path):
    cnnforge.Model(TINY).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "int4"}))
    with pytest.raises(BackendError, match="does not compute in int4"):
        cnnforge.Model.load(tmp_path)


def test_a_precision_of_a_gpu_gives_and_takes_float32(monkeypatch, batch):
    monkeypatch.setattr("cnnforge.model.create", lambda name: CupyBackend(Emulator()))
    full, half = (cnnforge.Model(TINY, "cupy", precision, seed=3) for precision in ("float32", "bfloat16"))
    assert {a.dtype.name for a in half.params.values()} == {"float32"}
    for name in ("predict", "forward"):
        got, expected = (getattr(model, name)(batch[0]) for model in (half, full))
        assert got.dtype == "float32"
        np.testing.assert_allclose(got, expected, atol=0.05)
        assert (got != expected).any()
    (loss, grads), (expected_loss, expected) = (model.loss_and_grads(*batch) for model in (half, full))
    assert loss == pytest.approx(expected_loss, rel=0.02)
    for name, grad in grads.items():
        assert grad.dtype == "float32"
        np.testing.assert_allclose(grad, expected[name], atol=0.03 * abs(expected[name]).max() + 1e-4, err_msg=name)


def test_what_is_not_available_is_named():
    with pytest.raises(BackendError) as error:
        cnnforge.Model(TINY, backend="cupy")
    assert "backend cupy is not available" in str(error.value)
    with pytest.raises(BackendError) as error:
        cnnforge.Model(TINY, precision="bfloat16")
    assert "does not compute in bfloat16" in str(error.value)
    assert "trainer.backend=cupy" in str(error.value)


def test_mistakes_in_the_spec_come_all_at_once():
    wrong = {
        "name": "w",
        "input": [4, 4, 1],
        "layers": {"a": {"type": "conv", "filters": 2, "kernel": 9}, "b": {"type": "fcc"}},
    }
    with pytest.raises(ConfigErrors) as error:
        cnnforge.Model(wrong)
    assert len(error.value.errors) == 2


def test_frozen_weights_stay(batch):
    layers = {**TINY["layers"], "conv1": {**TINY["layers"]["conv1"], "trainable": False}}
    model = cnnforge.Model({**TINY, "layers": layers})
    before = model.params["conv1.w"].copy()
    _, grads = model.loss_and_grads(*batch)
    assert "conv1.w" not in grads
    model.fit(*batch, epochs=2)
    np.testing.assert_array_equal(model.params["conv1.w"], before)


def test_missing_kernels_are_announced_once(monkeypatch, capsys):
    def prepare(self, steps, report):
        assert list(steps)
        for done in range(3):
            report(done, 2)

    monkeypatch.setattr("cnnforge.backends.numpy.backend.NumpyBackend.prepare", prepare)
    model = cnnforge.Model(TINY, backend="numpy")
    for _ in range(2):
        model.predict(np.zeros((2, *model.spec.input), np.float32))
    assert capsys.readouterr().err == "note: compiling 2 kernels for this machine, which happens once\n"
