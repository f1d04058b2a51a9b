"""First weights from another net: what is found, what matches, what is said."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import CheckpointError, ConfigError
from cnnforge.model import Model
from cnnforge.spec import RunSpec
from cnnforge.tracking import read
from cnnforge.train.run import resume, run
from cnnforge.train.transfer import settle, transfer

NET = """
name: net
input: [6, 6, 2]
layers:
  conv1: {type: conv, filters: 3, kernel: 3, bias: false}
  norm1: {type: batch_norm}
  fc: {type: fc, units: 4}
  output: {type: fc, units: %d, activation: softmax}
"""
QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=60", "data.test_samples=20", "tracking=none",
    "trainer.batch_size=32", "trainer.epochs=1", "trainer.backend=numpy",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def net(classes=5, seed=0):
    return Model(NET % classes, backend="numpy", seed=seed)


def take(model, **fields):
    return transfer(settle(RunSpec(model=model.spec, init_from=fields)), model._weights)


def arrays(model):
    return {name: np.array(array) for name, array in (dict(model.params) | dict(model.state)).items()}


def go(*overrides):
    out = io.StringIO()
    folder, _ = run(validate(compose([*QUICK, *overrides])), PlainConsole(out))
    return folder, out.getvalue()


def test_a_saved_model_is_taken_over_whole():
    there, here = net(seed=1), net(seed=2)
    there.state["norm1.mean"] = [1, 2, 3]
    there.save(Path("saved"))
    report = take(here, source="saved")
    assert report.notes == (f"init_from: 9 of 9 tensors from {Path('saved').resolve()}",)
    for name, array in arrays(there).items():
        np.testing.assert_array_equal(arrays(here)[name], array)


def test_a_new_head_is_left_as_drawn():
    there, here, fresh = net(5, seed=1), net(7, seed=2), net(7, seed=2)
    there.save(Path("saved"))
    report = take(here, source="saved")
    assert report.notes[1] == (
        "init_from: 2 in another shape: output.w is (4, 5) there, (4, 7) here, output.b is (5,) there, (7,) here"
    )
    np.testing.assert_array_equal(here.params["output.w"], fresh.params["output.w"])
    np.testing.assert_array_equal(here.params["fc.w"], there.params["fc.w"])
    before = arrays(net(7, seed=3))
    untouched = net(7, seed=3)
    with pytest.raises(CheckpointError, match="not everything can be taken over") as caught:
        take(untouched, source="saved", strict=True)
    assert "output.w is (4, 5) there, (4, 7) here" in caught.value.why
    for name, array in arrays(untouched).items():
        np.testing.assert_array_equal(array, before[name])


def test_patterns_choose():
    there, here, fresh = net(seed=1), net(seed=2), net(seed=2)
    there.save(Path("saved"))
    report = take(here, source="saved", match=["conv*", "norm1.gamma"], strict=True)
    assert report.taken == ("conv1.w", "norm1.gamma")
    assert report.notes[1].startswith("init_from: 7 not used: fc.b, fc.w, ")
    np.testing.assert_array_equal(here.params["conv1.w"], there.params["conv1.w"])
    np.testing.assert_array_equal(here.params["fc.w"], fresh.params["fc.w"])
    with pytest.raises(ConfigError, match=r"conv9\.\*: no tensor of the net has such a name"):
        take(here, source="saved", match="conv9.*")


def test_a_file_of_tensors():
    here = net()
    save_file({"conv1.w": np.full((3, 3, 2, 3), 2, np.float16), "other": np.zeros(2, np.float32)}, "some.safetensors")
    report = take(here, source="some.safetensors")
    assert (here.params["conv1.w"] == 2).all()
    assert report.notes[1].startswith("init_from: 8 not there: norm1.gamma, norm1.beta")
    assert report.notes[2] == "init_from: 1 not used: other"
    save_file({"other": np.zeros(2, np.float32)}, "none.safetensors")
    with pytest.raises(CheckpointError, match="nothing in it fits this net"):
        take(here, source="none.safetensors")


def test_torchs_layouts_are_converted():
    here = net()
    rng = np.random.default_rng(0)
    conv, linear, head = (rng.standard_normal(s).astype(np.float32) for s in ((3, 2, 3, 3), (4, 48), (5, 4)))
    file = {"features.0.weight": conv, "fc.weight": head, "fc.bias": np.zeros(5, np.float32)}
    file |= {f"features.1.{part}": np.full(3, i, np.float32)
             for i, part in enumerate(("weight", "bias", "running_mean", "running_var"))}  # fmt: skip
    file["features.1.num_batches_tracked"] = np.array(3)
    file |= {"features.4.weight": linear, "features.4.bias": np.ones(4, np.float32)}
    save_file(file, "torch.safetensors")
    take(here, source="torch.safetensors", map="torchvision", strict=True)
    f, c, kh, kw = 2, 1, 0, 2
    assert here.params["conv1.w"][kh, kw, c, f] == conv[f, c, kh, kw]
    u, h, w, c = 3, 2, 1, 2
    assert here.params["fc.w"][(h * 4 + w) * 3 + c, u] == linear[u, (c * 4 + h) * 4 + w]
    assert [float(here.state["norm1.var"][0]), float(here.params["norm1.beta"][0])] == [3, 1]
    del file["fc.weight"], file["fc.bias"]
    save_file(file, "torch.safetensors")
    with pytest.raises(CheckpointError, match="its layers are not those of this net") as caught:
        take(here, source="torch.safetensors", map="torchvision")
    assert caught.value.why == "at output the net has linear, the file nothing"


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.bin"])
def test_pickles_are_refused_unread(name):
    Path(name).write_bytes(pickle.dumps(1))
    with pytest.raises(CheckpointError, match="read with pickle") as caught:
        take(net(), source=name)
    assert "save_file(torch.load(" in caught.value.fix


def test_what_cannot_be_read():
    with pytest.raises(CheckpointError, match=r"a\.safetensors: no such file"):
        take(net(), source="a.safetensors")
    Path("a.safetensors").write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        take(net(), source="a.safetensors")
    with pytest.raises(ConfigError, match="nowhere: no such run"):
        take(net(), source="nowhere")
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match="no saved model in"):
        take(net(), source="empty")


def test_a_run_begins_with_another_runs_best_weights():
    first, _ = go("run.name=first")
    second, said = go("run.name=second", "init_from=latest", "optimizer.lr=1e-12", "seed=3")
    assert f"init_from: 10 of 10 tensors from {(first / 'checkpoints' / 'best').resolve()}" in said
    there, here = Model.load(first), Model.load(second)
    for name in there.params:
        np.testing.assert_allclose(here.params[name], there.params[name], atol=1e-8)
    (event,) = [
        r["data"] for r in read(second / "journal.jsonl")[0] if r["kind"] == "event" and r["name"] == "init_from"
    ]
    about = json.loads((first / "checkpoints" / "best" / "model.json").read_text())
    assert event["digest"] == about["tensors"]


def test_a_resumed_run_needs_its_source_no_more():
    first, _ = go("run.name=first")
    second, _ = go("run.name=second", "init_from=first")
    shutil.rmtree(first)
    resume(second, ["trainer.epochs=2"], PlainConsole(io.StringIO()), changed=True)
    assert json.loads((second / "result.json").read_text())["epochs"] == 2


def test_nothing_is_begun_where_the_source_is_missing():
    with pytest.raises(ConfigError, match="no such run"):
        go("init_from=nowhere")
    assert not Path("runs").exists()
