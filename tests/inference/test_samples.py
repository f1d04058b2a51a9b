"""Samples for a trained model: its own, cut as they were, or others, by the names of their classes."""

import json

import numpy as np
import pytest

from cnnforge.cli.main import main
from cnnforge.config import compose, read_run, validate
from cnnforge.data import load
from cnnforge.errors import DataError
from cnnforge.inference.evaluation import evaluate_split
from cnnforge.inference.predict import answers, picture_files
from cnnforge.inference.samples import samples
from cnnforge.model import Model
from cnnforge.spec import ImageFolderData
from tests.drawn import SHAPES, draw_folder, drawn

TRAIN = ["data=image_folder", "data.path=pictures", "trainer.epochs=2", "trainer.batch_size=16",
         "trainer.backend=numpy", "tracking=none", "run.name=shapes"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(the working directory, the run's spec, its model)"""
    with pytest.MonkeyPatch.context() as patch:
        here = tmp_path_factory.mktemp("samples")
        patch.chdir(here)
        patch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        draw_folder(here / "pictures", 16)
        assert main(["train", *TRAIN]) == 0
    folder = here / "runs" / "shapes"
    return here, validate(read_run(folder / "config.yaml")), Model.load(folder, "numpy")


@pytest.fixture(autouse=True)
def there(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained[0] / "cache"))


def folder(path, **fields):
    return ImageFolderData.model_validate({"type": "image_folder", "path": str(path)} | fields)


def test_its_own_samples_are_those_that_training_tested(trained):
    here, run, model = trained
    chosen = samples(run, run.data, model)
    result = json.loads((here / "runs" / "shapes" / "result.json").read_text())
    found = evaluate_split(model, chosen.x, chosen.y, loss=chosen.loss)
    assert (chosen.part, chosen.loss, chosen.name) == ("test", None, "image_folder")
    assert found.accuracy == pytest.approx(result["test_accuracy"])
    assert found.loss == pytest.approx(result["test_loss"], rel=1e-5)
    data = load(run.data, run.model.input, run.seed)
    np.testing.assert_array_equal(chosen.x(0, 5), data.preprocessing.normalize(data.test.x[:5]))
    assert chosen.digest == data.digest


def test_files_are_named(trained):
    _, run, model = trained
    for part in ("train", "validation", "test"):
        chosen = samples(run, run.data, model, part)
        assert [name.split("/")[0] for name in chosen.files] == [SHAPES[y] for y in chosen.y]


def test_parts_have_nothing_in_common_however_the_same_data_are_named(trained):
    _, run, model = trained
    again = validate(compose([*TRAIN[:2], "data.validation=0.3", "data.normalize=unit"])).data
    named = [set(samples(run, data, model, part).files)
             for data in (run.data, again) for part in ("train", "validation", "test")]  # fmt: skip
    assert named[:3] == named[3:]
    assert sum(map(len, named[:3])) == len(set().union(*named[:3])) == 48
    # What is asked for is done.
    assert len(samples(run, again, model, "validation", said=["validation"])) > len(named[1])


def test_of_others_nothing_is_cut_off(trained, tmp_path):
    _, run, model = trained
    draw_folder(tmp_path / "new", 3, first=100)
    chosen = samples(run, folder(tmp_path / "new"), model)
    assert (chosen.part, len(chosen)) == ("all", 9)
    draw_folder(tmp_path / "parts" / "train", 3)
    draw_folder(tmp_path / "parts" / "test", 2)
    chosen = samples(run, folder(tmp_path / "parts"), model)
    assert (chosen.part, len(chosen)) == ("test", 6)
    with pytest.raises(DataError) as raised:
        samples(run, folder(tmp_path / "new"), model, "test")
    assert str(raised.value).startswith("image_folder: there are no test samples\n")
    assert str(raised.value).endswith("why:   its parts are train 9\n  fix:   --split train")


def test_the_number_of_a_class_follows_its_name(trained, tmp_path):
    _, run, model = trained
    for shape in ("triangle", "circle"):
        (tmp_path / "two" / shape).mkdir(parents=True)
        drawn(shape, 7).save(tmp_path / "two" / shape / "7.png")
    assert samples(run, folder(tmp_path / "two"), model).y.tolist() == [2, 0]  # in a drawn order
    ordered = folder(tmp_path / "two", classes=["triangle", "circle"])
    chosen = samples(run, ordered, model)
    assert [SHAPES[y] for y in chosen.y] == [name.split("/")[0] for name in chosen.files]
    # The config of the run counts three.
    assert len(samples(run, run.data.model_copy(update={"path": str(tmp_path / "two")}), model)) == 2


def test_classes_that_the_model_does_not_know(trained, tmp_path):
    _, run, model = trained
    draw_folder(tmp_path / "new", 1)
    (tmp_path / "new" / "circle").rename(tmp_path / "new" / "circles")
    with pytest.raises(DataError) as raised:
        samples(run, folder(tmp_path / "new"), model)
    assert raised.value.what == "image_folder: the model knows no class circles"
    assert raised.value.why == "its classes are circle, square, triangle"
    assert raised.value.fix == "did you mean 'circle'?"
    synthetic = validate(compose(["data=synthetic", "data.classes=10"])).data
    with pytest.raises(DataError, match="the model knows no class 0, 1, 2, 3, 4"):
        samples(run, synthetic, model)


def test_without_names_the_number_of_classes_counts(trained):
    _, run, _ = trained
    nameless = Model.load("runs/shapes", "numpy")
    nameless.classes = ()
    with pytest.raises(DataError, match="synthetic: 10 classes, and the model tells 3 apart"):
        samples(run, validate(compose(["data=synthetic", "data.classes=10"])).data, nameless)
    assert (
        len(samples(run, validate(compose(["data=synthetic", "data.classes=3"]), match_data=False).data, nameless))
        == 256
    )


def test_evaluating_a_folder_is_predicting_its_files(trained, tmp_path):
    """The same decoding, fitting and normalising, whatever the data's own config would do with such pictures."""
    _, run, model = trained
    for shape in SHAPES:
        (tmp_path / "big" / shape).mkdir(parents=True)
        for i in range(3):
            drawn(shape, 50 + i, size=(64, 90, 51)[i]).save(tmp_path / "big" / shape / f"{i}.png")
    chosen = samples(run, folder(tmp_path / "big", fit="stretch", size=[20, 20], normalize="unit"), model)
    found = evaluate_split(model, chosen.x, chosen.y)
    asked = answers(model, picture_files([str(tmp_path / "big" / name) for name in chosen.files]), bytes)
    np.testing.assert_allclose(found.probabilities, [answer.values for answer in asked], rtol=1e-5)


def test_grey_pictures_for_a_model_of_colours(trained, tmp_path):
    _, run, _ = trained
    array = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 1), np.uint8)
    np.savez(tmp_path / "grey.npz", x=array, y=np.array([0, 1, 2, 0, 1, 2]))
    nameless = Model.load("runs/shapes", "numpy")
    nameless.classes = ()
    npz = validate(compose(["data=npz", f"data.path={tmp_path}/grey.npz", "data.classes=3"]), match_data=False).data
    chosen = samples(run, npz, nameless)
    expected = nameless.preprocessing.apply(array)
    assert all(any(np.array_equal(one, other) for other in expected) for one in chosen.x(0, 6))


def test_a_model_without_preprocessing(trained):
    _, run, _ = trained
    with pytest.raises(DataError, match="does not say how pictures become its input"):
        samples(run, run.data, Model(run.model, "numpy"))
