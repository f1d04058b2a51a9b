"""Classes that are counted in folders, and a last layer that follows."""

import tarfile
import zipfile

import pytest

from cnnforge.config import compose, counting, run_text, validate
from cnnforge.errors import ConfigErrors, DataError

PICTURES = ["data=image_folder", "data.path=pictures"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)
    for name in ("cat/1.png", "cat/2.PNG", "dog/deep/1.jpg", "eel/1.gif", "empty/notes.txt", ".hidden/1.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(b"nobody looks inside")
    return tmp_path


def test_what_the_folder_says_is_what_would_be_typed():
    counted = compose(PICTURES)
    typed = compose([*PICTURES, "data.classes=3", "model.layers.output.units=3"])
    assert run_text(validate(counted)) == run_text(validate(typed))
    first, second = counted.notes
    assert first == "data.classes: 3, counted in pictures: cat, dog, eel"
    assert second.startswith("model.layers.output.units: 3, one for each class, where ")
    assert "model/lenet.yaml:" in second
    assert second.endswith(" says 10")
    assert typed.notes == ()


def test_nothing_is_counted_where_it_is_said():
    said = compose([*PICTURES, "data.classes=4"])
    assert (said.tree["data"]["classes"], said.notes) == (4, ())
    with pytest.raises(ConfigErrors, match="output: 10 units for 4 classes"):
        validate(said)
    yes = compose([*PICTURES, "data.positive=[cat]", "model=cat_detector"])
    assert (yes.tree["data"].get("classes"), yes.notes) == (None, ())


def test_units_on_the_command_line_stand():
    with pytest.raises(ConfigErrors) as raised:
        validate(compose([*PICTURES, "model.layers.output.units=4"]))
    assert str(raised.value) == (
        "output: 4 units for 3 classes\n"
        "  where: <override 'model.layers.output.units=4'> (model.layers.output.units)\n"
        "  why:   data 'image_folder' has 3 classes, one output for each\n"
        "  fix:   units: 3"
    )


def test_units_of_an_experiment_stand(here):
    (here / "configs" / "experiment").mkdir(parents=True)
    (here / "configs" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nmodel: {layers: {output: {units: 7}}}\n"
    )
    with pytest.raises(ConfigErrors, match="output: 7 units for 3 classes"):
        validate(compose([*PICTURES, "experiment=mine"]))


def test_units_of_the_users_own_model_follow_too(here):
    (here / "configs" / "model").mkdir(parents=True)
    (here / "configs" / "model" / "mine.yaml").write_text(
        "input: [8, 8, 3]\nlayers:\n  conv1: {type: conv, filters: 4, kernel: 3}\n"
        "  score: {type: fc, units: 9}\n  out: {type: activation, function: softmax}\n"
    )
    counted = compose([*PICTURES, "model=mine"])
    assert counted.notes[1] == (
        "model.layers.score.units: 3, one for each class, where configs/model/mine.yaml:4:21 says 9"
    )
    assert validate(counted).model.output == (3,)


@pytest.mark.parametrize("model", ["squeezenet1_0", "resnet18", "alexnet", "mobilenet_v2"])
def test_the_zoo_follows(model):
    assert validate(compose([*PICTURES, f"model={model}"])).model.output == (3,)


def test_a_layer_that_is_put_in_somewhere():
    drop = "+model.layers.drop={type: dropout, rate: 0.5, after: fc4}"
    assert validate(compose([*PICTURES, drop])).model.output == (3,)
    other = "+model.layers.more={type: fc, units: 5, activation: softmax, after: output}"
    counted = compose([*PICTURES, other])
    assert counted.tree["model"]["layers"]["output"]["units"] == 10
    with pytest.raises(ConfigErrors, match="more: 5 units for 3 classes"):
        validate(counted)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_only_a_softmax_tells_classes_apart(activation):
    counted = compose([*PICTURES, f"model.layers.output.activation={activation}"])
    assert counted.tree["model"]["layers"]["output"]["units"] == 10
    assert [note.partition(":")[0] for note in counted.notes] == ["data.classes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.layers.output={type: fc, units: 1, activation: sigmoid}"], "output: 1 sigmoid unit for 3 classes"),
        (["model.layers.output.activation=none", "model.layers.output.units=3"], "output: the loss is mse, and data"),
        (["model=network_in_network"], "10"),
    ],
)
def test_what_does_not_follow_is_an_error(words, said):
    with pytest.raises(ConfigErrors) as raised:
        validate(compose([*PICTURES, *words]))
    assert said in str(raised.value)


@pytest.mark.parametrize("inside", ["", "pictures/"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives(kind, inside, here):
    """One that holds the folder itself is the same."""
    names = [p.relative_to(here / "pictures") for p in (here / "pictures").rglob("*") if p.is_file()]
    if kind == "zip":
        with zipfile.ZipFile("p.zip", "w") as archive:
            for name in names:
                archive.write(here / "pictures" / name, f"{inside}{name}")
    else:
        with tarfile.open(f"p.{kind}", "w:gz" if kind == "tar.gz" else "w") as archive:
            for name in names:
                archive.add(here / "pictures" / name, f"{inside}{name}")
    assert compose(["data=image_folder", f"data.path=p.{kind}"]).tree["data"]["classes"] == 3


def test_an_archive_that_takes_long_is_not_listed(here, monkeypatch):
    monkeypatch.setattr(counting, "CHEAP", 10)
    with tarfile.open("p.tar.gz", "w:gz") as archive:
        archive.add("pictures")
    assert compose(["data=image_folder", "data.path=p.tar.gz"]).tree["data"]["classes"] is None
    with pytest.raises(ConfigErrors, match="the number of classes is not known"):
        validate(compose(["data=image_folder", "data.path=p.tar.gz"]))


def test_a_manifest(here):
    (here / "list.csv").write_text("path,label\npictures/cat/1.png,cat\nnot-there.png,dog\n")
    counted = compose(["data=manifest", "data.path=list.csv"])
    assert counted.notes[0] == "data.classes: 2, counted in list.csv: cat, dog"
    assert validate(counted).model.output == (2,)


def test_data_that_are_not_there():
    with pytest.raises(DataError) as raised:
        validate(compose(["data=image_folder", "data.path=pictuers"]))
    assert str(raised.value) == (
        "image_folder: there is no pictuers\n"
        "  where: . (the working directory); cache/cnnforge/data (the user's cache)\n"
        "  why:   it is in none of these folders\n"
        "  fix:   data.path=FOLDER with its whole path, or data.root=FOLDER that has it"
    )
    with pytest.raises(ConfigErrors) as several:
        validate(compose(["data=image_folder", "data.path=pictuers", "trainer.epochs=0"]))
    assert len(several.value.errors) == 2


def test_a_folder_without_classes(here):
    (here / "flat").mkdir()
    (here / "flat" / "1.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        validate(compose(["data=image_folder", "data.path=flat"]))
    assert str(raised.value) == (
        "flat: there are no pictures\n"
        "  where: flat\n"
        "  why:   a folder for each class is wanted, with pictures in it; 1 other files are there\n"
        "  fix:   CLASS/NAME.png, or train/CLASS/NAME.png and test/CLASS/NAME.png; names end in .png, .jpg, .jpeg, "
        ".bmp, .gif, .tif, .tiff"
    )


def test_what_cannot_be_understood_is_left_to_validation():
    for word in ("data.path=3", "data.root=[a]", "model.layers=3", "model.layers.output=7", "model.loss=[]"):
        with pytest.raises(ConfigErrors):
            validate(compose([*PICTURES, word]))


def test_points_of_a_sweep_count_too():
    from cnnforge.config import compose_sweep

    sweep = compose_sweep([*PICTURES, "model=lenet,lenet5"])
    assert [sweep.run({"model": name}).model.output for name in ("lenet", "lenet5")] == [(3,), (3,)]
