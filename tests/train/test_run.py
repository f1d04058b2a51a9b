"""A whole run in its folder, without a tracker."""

import io
import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnforge
from cnnforge.backends import resolve
from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, read_run, validate
from cnnforge.data import pictures
from cnnforge.errors import BackendError, DataError, DivergedError, InterruptedRun
from cnnforge.spec import AugmentSpec
from cnnforge.tracking import read
from cnnforge.train import run as run_module
from cnnforge.train import setup as set_up_module
from cnnforge.train.run import run

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=100", "data.test_samples=30", "data.noise=0.1", "tracking=none",
    "trainer.batch_size=32",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def go(*overrides):
    out = io.StringIO()
    folder, result = run(validate(compose([*QUICK, *overrides])), PlainConsole(out))
    return folder, result, out.getvalue()


def test_what_a_run_leaves_behind():
    folder, result, said = go("trainer.epochs=3")
    assert folder == Path("runs/lenet5-synthetic")
    assert Path("runs/latest").resolve() == folder.resolve()
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "journal.jsonl", "result.json", "plan.json", "checkpoints", "model"} <= names
    written = json.loads((folder / "result.json").read_text())
    assert written == result
    assert {
        "status", "epochs", "steps", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss",
        "test_accuracy", "samples_per_second", "data_wait", "wall_seconds", "peak_memory_bytes",
    } <= written.keys()  # fmt: skip
    assert (written["status"], written["epochs"], written["steps"]) == ("finished", 3, 9)
    assert "epoch 3/3" in said
    assert "90 train, 10 validation, 30 test samples" in said


def test_the_resolved_config_gives_the_same_run():
    folder, *_ = go("trainer.epochs=1", "seed=5")
    again = validate(read_run(folder / "config.yaml"))
    assert again == validate(compose([*QUICK, "trainer.epochs=1", "seed=5"]))


def test_two_runs_of_one_config_are_equal_to_the_bit():
    ends = [cnnforge.Model.load(go("trainer.epochs=2")[0]) for _ in range(2)]
    for name in ends[0].params:
        np.testing.assert_array_equal(ends[0].params[name], ends[1].params[name])


def test_the_journal_holds_what_the_result_says():
    folder, result, *_ = go("trainer.epochs=2", "trainer.log_every=2")
    records, _ = read(folder / "journal.jsonl")
    kinds = [r["kind"] for r in records]
    assert kinds[-1] == "end"
    metrics = [r for r in records if r["kind"] == "metrics"]
    assert [r["step"] for r in metrics if "step/train_loss" in r["values"]] == [2, 4, 6]
    epochs = [r for r in metrics if "val_loss" in r["values"]]
    assert [r["step"] for r in epochs] == [1, 2]
    assert epochs[-1]["values"]["val_loss"] == result["val_loss"]
    params = next(r for r in records if r["kind"] == "params")["values"]
    assert params["model.layers.conv1.filters"] == "6"
    tags = {name: value for r in records if r["kind"] == "tags" for name, value in r["values"].items()}
    assert tags["backend"] == resolve("auto")
    assert "numpy.version" in tags


def test_the_model_that_is_tested_is_the_best_one():
    folder, result, *_ = go("trainer.epochs=4", "optimizer.lr=0.01")
    best = cnnforge.Model.load(folder / "checkpoints" / "best")
    saved = cnnforge.Model.load(folder / "model")
    for name in best.params:
        np.testing.assert_array_equal(best.params[name], saved.params[name])
    assert result["best_val_accuracy"] >= result["val_accuracy"]


def test_a_run_folder_loads_as_a_model_and_takes_raw_pictures_through_its_preprocessing():
    folder, *_ = go("trainer.epochs=1")
    model = cnnforge.Model.load(folder)
    assert model.preprocessing is not None
    raw = np.zeros((2, 32, 32, 1), np.float32)
    assert model.predict(model.preprocessing.apply(raw)).shape == (2, 10)
    assert model.classes == tuple("0123456789")
    model.save(folder / "again")
    again = cnnforge.Model.load(folder / "again")
    assert (again.classes, again.preprocessing) == (model.classes, model.preprocessing)


def test_a_picture_file_becomes_what_training_saw_of_it():
    """The digits are 8x8, and 32x32 for the network: a file goes the same way."""
    words = ["data=digits", "trainer.epochs=1", "trainer.max_steps=1", "tracking=none"]
    folder, _ = run(validate(compose(words)), PlainConsole(io.StringIO()))
    how = cnnforge.Model.load(folder).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(how.decode(file.getvalue()), pixels[:, :, None])
    large = io.BytesIO()
    Image.fromarray(pixels.repeat(5, 0).repeat(7, 1)).convert("RGB").save(large, "PNG")
    assert how.decode(large.getvalue()).shape == (8, 8, 1)
    with pytest.raises(pictures.DAMAGE):
        how.decode(b"no picture")


def test_without_validation_the_last_checkpoint_is_tested():
    folder, result, *_ = go("trainer.epochs=2", "data.validation=0")
    assert "val_loss" not in result
    assert not (folder / "checkpoints" / "best").exists()
    assert "test_accuracy" in result


def test_only_training_pictures_are_augmented(monkeypatch):
    made = []

    class Seen(set_up_module.Batches):
        def __init__(self, split, *args, augment=None, **kwargs):
            made.append((len(split), augment))
            super().__init__(split, *args, augment=augment, **kwargs)

    monkeypatch.setattr(set_up_module, "Batches", Seen)
    go("trainer.epochs=1", "augment=flip_crop", "augment.crop.padding=2")
    chosen = AugmentSpec(crop={"padding": 2}, flip={"rate": 0.5})
    assert made == [(90, chosen), (10, None), (30, None)]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_augmented_runs_are_equal_to_the_bit_and_differ_from_plain_ones(backend):
    augmented = [f"trainer.backend={backend}", "trainer.threads=1", "trainer.epochs=1", "augment=flip_crop"]
    one, two = go(*augmented)[1], go(*augmented)[1]
    assert one["train_loss"] == two["train_loss"]
    assert one["train_loss"] != go(*augmented, "augment=none")[1]["train_loss"]


def test_divergence_is_recorded_and_raised():
    with pytest.raises(DivergedError) as error:
        go(
            "trainer.epochs=2",
            "optimizer=sgd",
            "optimizer.lr=1e30",
            "optimizer.momentum=0.9",
            "model=lenet",
            "model.input=[32,32,1]",
        )
    said = str(error.value)
    assert "where: runs/lenet-synthetic" in said
    assert "is not finite" in said
    result = json.loads(Path("runs/latest/result.json").read_text())
    assert result["status"] == "diverged"
    records, _ = read(Path("runs/latest/journal.jsonl"))
    assert records[-1]["status"] == "diverged"


def test_balanced_class_weights_are_measured_from_the_training_labels():
    loss = "model.loss={type: softmax_cross_entropy, class_weights: balanced, label_smoothing: 0.1}"
    _, result, said = go(loss, "trainer.epochs=1")
    assert "softmax_cross_entropy: class weights " in said
    assert np.isfinite([result["train_loss"], result["test_loss"]]).all()


def test_missing_data_leaves_a_folder_that_says_so(monkeypatch):
    monkeypatch.setenv("CNNFORGE_DATA", "nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "nowhere-either")
    with pytest.raises(DataError):
        run(validate(compose(["model=lenet5", "data=mnist", "tracking=none"])), PlainConsole(io.StringIO()))
    folder = Path("runs/lenet5-mnist")
    assert (folder / "config.yaml").is_file()
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"


def test_ctrl_c_writes_a_checkpoint_and_ends_as_interrupted(monkeypatch):
    class Impatient(PlainConsole):
        def step(self, progress, metrics):
            if progress.step == 4:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRun) as error:
        run(validate(compose([*QUICK, "trainer.epochs=5"])), Impatient(io.StringIO()))
    assert error.value.exit_code == 130
    folder = Path("runs/lenet5-synthetic")
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    state = json.loads((folder / "checkpoints" / "last" / "state.json").read_text())
    assert (state["step"], state["epoch"], state["step_in_epoch"]) == (4, 1, 1)
    assert "cnnforge-batches" not in {thread.name for thread in threading.enumerate()}


class TestCompiling:
    """Kernels that this machine does not have are compiled before anything else begins, where one can see it."""

    class Telling(PlainConsole):
        def compiling(self, done, total):
            self.say(f"compiling {done}/{total}")

    @pytest.fixture
    def missing(self, monkeypatch):
        def prepare(self, steps, report):
            assert len(list(steps)) > 20
            for done in range(3):
                report(done, 2)

        monkeypatch.setattr("cnnforge.backends.numpy.backend.NumpyBackend.prepare", prepare)

    def test_it_is_shown(self, missing):
        out = io.StringIO()
        run(validate(compose([*QUICK, "trainer.max_steps=1", "trainer.backend=numpy"])), self.Telling(out))
        said = out.getvalue().splitlines()
        at = said.index("compiling 0/2")
        assert said[at : at + 3] == ["compiling 0/2", "compiling 1/2", "compiling 2/2"]
        assert "epochs of" in said[at + 3]

    def test_ctrl_c_ends_it(self, missing):
        class Impatient(self.Telling):
            def compiling(self, done, total):
                assert not done
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(InterruptedRun):
            run(validate(compose([*QUICK, "trainer.backend=numpy"])), Impatient(io.StringIO()))
        assert json.loads(Path("runs/latest/result.json").read_text())["status"] == "interrupted"


def test_a_bug_still_leaves_a_record(monkeypatch):
    def broken(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(set_up_module, "make_plan", broken)
    with pytest.raises(ZeroDivisionError):
        go()
    assert json.loads(Path("runs/latest/result.json").read_text())["status"] == "failed"


def test_max_steps_and_partial_batches():
    _, result, *_ = go("trainer.max_steps=2")
    assert (result["steps"], result["epochs"]) == (2, 1)


@pytest.mark.parametrize("override", ["trainer.backend=cupy", "trainer.precision=bfloat16"])
def test_what_cannot_run_here_is_said_before_there_is_a_folder(override):
    with pytest.raises(BackendError) as error:
        go(override)
    assert error.value.exit_code == 2
    assert not Path("runs").exists()


def test_a_run_that_diverges_keeps_its_last_good_state_and_says_where():
    with pytest.raises(DivergedError) as error:
        go("model=lenet", "model.input=[32,32,1]", "trainer.epochs=30", "optimizer=sgd", "optimizer.lr=1e15")
    assert "the first layer whose output is not finite" in str(error.value)
    assert "largest |its input|" in str(error.value)
    kept = cnnforge.Model.load(Path("runs/latest/checkpoints/last"))
    assert all(np.isfinite(array).all() for array in kept.params.values())


def test_each_layer_is_looked_at_now_and_then():
    folder, *_ = go("model=lenet", "model.input=[32,32,1]", "trainer.epochs=3", "trainer.stats_every=4")
    records, _ = read(folder / "journal.jsonl")
    seen = {r["step"]: r["values"] for r in records if r["kind"] == "metrics" and "layer/conv1/dead" in r["values"]}
    assert sorted(seen) == [1, 4, 8, 9], "the first, one in four, the last"
    names = {name for name in seen[4] if name.startswith("layer/")}
    assert {"layer/conv1.w/grad_norm", "layer/fc3.w/update_ratio", "layer/fc4/dead"} <= names
    assert not any(".b/" in name for name in names)
    assert all(0 <= seen[4][f"layer/{layer}/dead"] <= 1 for layer in ("conv1", "conv2", "fc3", "fc4"))
    assert 0 < seen[4]["layer/conv1.w/update_ratio"] < 0.5
    folder, *_ = go("trainer.epochs=1", "trainer.stats_every=null")
    assert not any(name.startswith("layer/") for r in read(folder / "journal.jsonl")[0] if r["kind"] == "metrics"
                   for name in r["values"])  # fmt: skip


def test_a_net_that_can_learn_gets_a_few_batches_right():
    _, result, said = go(
        "trainer.overfit_batches=1", "trainer.epochs=60", "augment=flip_crop", "augment.crop.padding=2", "data.noise=2",
        "optimizer.lr=0.005",
    )  # fmt: skip
    assert "the same 32 samples in every epoch" in said
    assert result["steps"] == 60
    assert result["train_accuracy"] == 1.0
    assert not any(name.startswith(("val_", "test_")) for name in result)


def test_a_fast_dev_run_does_a_little_of_everything(monkeypatch):
    started = []
    monkeypatch.setattr(run_module, "start", lambda *args, **kwargs: started.append(args))
    _, result, said = go("trainer.fast_dev_run=true", "tracking.enabled=true")
    assert (result["status"], result["steps"]) == ("finished", 2)
    assert {"val_loss", "test_loss"} <= result.keys()
    assert "no tracking" in said
    assert not started
