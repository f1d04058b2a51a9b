"""Picture files in class folders, archives and lists: what is read, how it is fitted, what is refused."""

import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from cnnforge.config import compose, validate
from cnnforge.data import decoded, image_folder, load
from cnnforge.data.pictures import Form, decode
from cnnforge.errors import ConfigErrors, DataError
from cnnforge.spec import ImageFolderData, ManifestData

INPUT = (12, 16, 3)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)


def picture(value, size=(12, 16), mode="RGB", form="PNG", **options):
    """The bytes of a picture file in one colour but for its first pixel."""
    colour = {"RGB": (value, 0, 255 - value), "L": value, "RGBA": (value, 0, 0, 128), "I;16": value * 256}[mode]
    made = Image.new(mode, size[::-1], colour)
    stream = io.BytesIO()
    made.save(stream, form, **options)
    return stream.getvalue()


def folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


FILES = {
    "pets/cat/b.png": picture(10), "pets/cat/a.png": picture(20), "pets/dog/x.PNG": picture(30),
    "pets/dog/y.jpg": picture(40, form="JPEG", quality=95), "pets/bird/z.bmp": picture(50, form="BMP"),
    "pets/cat/notes.txt": b"no picture", "pets/.hidden/h.png": picture(1), "pets/cat/.DS_Store": b"x",
}  # fmt: skip


def read(**fields):
    kind = ManifestData if fields.get("type") == "manifest" else ImageFolderData
    return image_folder.read(kind.model_validate({"type": "image_folder"} | fields), INPUT, print)


def tar(name, files):
    with tarfile.open(name, "w:gz") as archive:
        for file, content in files.items():
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return name


def zipped(name, files):
    with zipfile.ZipFile(name, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return name


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_one_folder_for_each_class(kind, tmp_path):
    files = {name.removeprefix("pets/"): content for name, content in FILES.items()}
    path = {"folder": lambda: str(folder(tmp_path / "pets", files)), "tar": lambda: tar("pets.tar.gz", files),
            "zip": lambda: zipped("pets.zip", files)}[kind]()  # fmt: skip
    stored = read(path=path)
    assert stored.class_names == ("bird", "cat", "dog")
    assert stored.train.x.shape == (5, 12, 16, 3)
    assert stored.train.y.tolist() == [0, 1, 1, 2, 2]
    # by class, then by name
    assert stored.train.x[:, 5, 5, 0].tolist()[:4] == [50, 20, 10, 30]
    assert abs(int(stored.train.x[4, 5, 5, 0]) - 40) <= 3
    assert stored.test is None
    assert stored.test_share == 0.2
    assert any("other files left alone" in note for note in stored.notes)


def test_the_same_pictures_are_the_same_data_wherever_they_lie(tmp_path):
    files = {name.removeprefix("pets/"): content for name, content in FILES.items() if "hidden" not in name}
    folder(tmp_path / "pets", files)
    digests = {read(path=path).digest for path in ("pets", tar("p.tar.gz", files), zipped("p.zip", files))}
    assert len(digests) == 1


def test_an_archive_of_the_folder_itself_has_the_classes_of_the_folder(tmp_path):
    """All pictures lie in one folder, in folders of its own: that one is no class."""
    folder(tmp_path, FILES)
    inside = {name.removeprefix("pets/"): content for name, content in FILES.items() if "hidden" not in name}
    for path in (tar("p.tar.gz", FILES), zipped("p.zip", FILES), str(tmp_path)):
        stored = read(path=path)
        assert stored.class_names == ("bird", "cat", "dog")
        np.testing.assert_array_equal(stored.train.y, read(path="pets").train.y)
    one = {"cat/a.png": picture(1), "cat/deep/b.png": picture(2)}
    assert read(path=zipped("one.zip", one)).class_names == ("cat",)
    assert image_folder.class_names("image_folder", folder(tmp_path / "again", inside)) == ("bird", "cat", "dog")


def test_samples_know_their_files(tmp_path):
    folder(tmp_path, FILES)
    data = load(ImageFolderData(type="image_folder", path="pets", cache=False), INPUT, 0)
    for split in (data.train, data.test):
        assert [name.split("/")[0] for name in split.names] == [data.class_names[y] for y in split.y]
    assert sorted(name for s in (data.train, data.test) for name in s.names) == [
        "bird/z.bmp", "cat/a.png", "cat/b.png", "dog/x.PNG", "dog/y.jpg",
    ]  # fmt: skip


def test_parts(tmp_path):
    files = {f"set/{part}/{label}/{i}.png": picture(i) for part in ("train", "valid", "test") for label in "ab"
             for i in range(2 + (part == "train"))}  # fmt: skip
    stored = read(path=tar("set.tgz", files))
    assert (len(stored.train), len(stored.validation), len(stored.test)) == (6, 4, 4)
    assert stored.test_share == 0
    del files["set/train/a/0.png"]
    with pytest.raises(DataError, match="there are no pictures"):
        read(path=tar("empty.tar", {"readme.txt": b"x"}))
    with pytest.raises(DataError, match="no training pictures"):
        read(path=tar("test.tar", {"test/a/1.png": picture(1), "test/b/1.png": picture(1)}))


def test_a_yes_or_no_question(tmp_path):
    folder(tmp_path, FILES)
    stored = read(path="pets", positive=["cat"])
    assert stored.train.y.tolist() == [0, 1, 1, 0, 0]
    assert stored.class_names == ("other", "cat")
    assert ImageFolderData(type="image_folder", path="x", positive=("cat",)).class_count() == 2
    with pytest.raises(DataError, match="there is no class cats"):
        read(path="pets", positive=["cats"])


def test_classes_that_the_config_names(tmp_path):
    folder(tmp_path, FILES)
    assert read(path="pets", classes=["dog", "cat", "bird", "fish"]).train.y.tolist() == [2, 1, 1, 0, 0]
    with pytest.raises(DataError, match=r"a class that data\.classes does not name: bird"):
        read(path="pets", classes=["dog", "cat"])
    with pytest.raises(DataError, match=r"3 classes are there, and data\.classes is 4") as error:
        read(path="pets", classes=4)
    assert "data.classes=3" in str(error.value)
    with pytest.raises(ConfigErrors, match="output: 10 units for 4 classes"):
        validate(compose(["data=image_folder", "data.path=pets", "data.classes=4"]))


def test_pictures_of_different_sizes_take_the_models_input(tmp_path):
    wide = Image.new("RGB", (32, 12))
    wide.paste((255, 0, 0), (8, 0, 24, 12))  # the middle half
    stream = io.BytesIO()
    wide.save(stream, "PNG")
    folder(tmp_path, {"p/a/1.png": picture(10), "p/b/2.png": stream.getvalue()})
    crop, pad, stretch = (read(path="p", fit=fit) for fit in ("crop", "pad", "stretch"))
    assert all(s.train.x.shape == (2, 12, 16, 3) for s in (crop, pad, stretch))
    assert (crop.train.x[1, :, :, 0] > 200).all(), "the middle is cut out"
    assert (pad.train.x[1, :2] == 0).all(), "black above"
    assert 0.3 < (stretch.train.x[1, :, :, 0] > 128).mean() < 0.7
    assert "pictures of 2 sizes -> 12x16: crop" in crop.notes
    assert read(path="p", size=[6, 4]).train.x.shape == (2, 6, 4, 3)
    assert read(path="p", channels=1).train.x.shape == (2, 12, 16, 1)


def test_a_broken_picture_is_named_or_counted(tmp_path):
    folder(tmp_path, FILES | {"pets/dog/broken.png": picture(1)[:45], "pets/dog/text.jpg": b"hello"})
    with pytest.raises(DataError, match=r"dog/broken.png cannot be read as a picture, nor can 1 others") as error:
        read(path="pets")
    assert "data.on_error: skip" in str(error.value)
    stored = read(path="pets", on_error="skip")
    assert len(stored.train) == 5
    assert "2 broken pictures left out" in stored.notes
    folder(tmp_path, {"q/a/1.png": b"x", "q/b/2.png": b"y"})
    with pytest.raises(DataError, match="none of 2 files can be read"):
        read(path="q", on_error="skip")


def test_a_damaged_archive(tmp_path):
    name = tar("p.tar.gz", {"a/1.png": picture(1), "b/1.png": picture(2)})
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"p.tar.gz is not a whole archive"):
        read(path=name)
    (tmp_path / "q.tar").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"q.tar is not a whole archive"):
        read(path="q.tar")


def test_nothing_outside_is_read(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(99))
    with tarfile.open("p.tar", "w") as archive:
        for name in ("a/1.png", "../secret/1.png", "/abs/1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(picture(1))
            archive.addfile(info, io.BytesIO(picture(1)))
        link = tarfile.TarInfo("b/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.png"
        archive.addfile(link)
    assert len(read(path="p.tar").train) == 1


def test_every_place_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNFORGE_DATA", str(tmp_path / "shared"))
    with pytest.raises(DataError, match="image_folder: there is no pets") as error:
        read(path="pets", root="mine")
    said = str(error.value)
    assert all(place in said for place in ("data.root", "the working directory", "$CNNFORGE_DATA", "cache"))
    folder(tmp_path / "shared", FILES)
    assert len(read(path="pets").train) == 5


def test_a_list_of_pictures(tmp_path):
    folder(tmp_path, FILES)
    (tmp_path / "list.csv").write_text(
        "path,label,split\npets/cat/a.png,tame,train\npets/dog/x.PNG,tame,\npets/bird/z.bmp,wild,train\n"
        "pets/cat/b.png,tame,test\n"
    )
    stored = read(type="manifest", path="list.csv")
    assert (stored.class_names, len(stored.train), len(stored.test)) == (("tame", "wild"), 3, 1)
    for text, what in (
        ("file,label\n", "no columns path and label"), ("path,label\n,x\n", "line 2 says no picture"),
        ("path,label,split\na.png,x,dev\n", "line 2 says no picture"),
        ("path,label\nno.png,x\n", "no.png is not there"),
        ("path,label\n", "there are no pictures"),
    ):  # fmt: skip
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(DataError, match=what):
            read(type="manifest", path="bad.csv")


def test_what_was_decoded_is_kept_and_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "WORTH", 3)
    folder(tmp_path, FILES)
    first = read(path="pets")
    (kept,) = (tmp_path / "cache" / "cnnforge" / "pictures").iterdir()
    monkeypatch.setattr(image_folder, "decode", None)  # nobody decodes again
    again = read(path="pets")
    np.testing.assert_array_equal(first.train.x, again.train.x)
    assert (first.digest, first.notes, first.class_names) == (again.digest, again.notes, again.class_names)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(image_folder, "WORTH", 3)
    content = bytearray(kept.read_bytes())
    content[-5] ^= 1
    kept.write_bytes(content)
    np.testing.assert_array_equal(read(path="pets").train.x, first.train.x)
    assert decoded.load(kept) is not None, "written anew"
    os.utime(tmp_path / "pets" / "cat" / "a.png", (1, 1))
    folder(tmp_path, {"pets/cat/a.png": picture(200)})
    assert read(path="pets").train.x[1, 5, 5, 0] == 200, "another file is another picture"
    os.chmod(tmp_path / "cache", 0o500)
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert len(read(path="pets").train) == 5


def upright(orientation):
    made = Image.new("RGB", (4, 2))
    made.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    made.save(stream, "PNG", exif=exif)
    return decode(stream.getvalue(), Form(None, "crop", 3))


def test_a_picture_is_turned_as_its_camera_says():
    assert upright(1).shape == (2, 4, 3)
    turned = upright(6)
    assert turned.shape == (4, 2, 3)
    assert turned[0, 1, 0] == 255


def test_modes():
    form = Form(None, "crop", 3)
    assert decode(picture(200, mode="L"), form)[0, 0].tolist() == [200, 200, 200]
    assert decode(picture(200, mode="I;16"), form)[0, 0].tolist() == [200, 200, 200]
    half = decode(picture(100, mode="RGBA"), form)[0, 0]
    assert np.abs(half.astype(int) - [177, 127, 127]).max() <= 1, "half transparent, on white"
    assert decode(picture(200), Form(None, "crop", 1)).shape == (12, 16, 1)
    palette = Image.new("P", (3, 3))
    palette.putpalette([9, 8, 7] * 256)
    stream = io.BytesIO()
    palette.save(stream, "GIF")
    assert decode(stream.getvalue(), form)[0, 0].tolist() == [9, 8, 7]


def test_a_whole_run_on_pictures_of_ones_own(tmp_path, capsys):
    from cnnforge.cli.main import main

    rng = np.random.default_rng(0)
    for label, shift in (("dark", 0), ("light", 120)):
        for i in range(20):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(shift, shift + 100, (20, 24, 3), np.uint8)).save(stream, "PNG")
            folder(tmp_path / "mine", {f"{label}/{i}.png": stream.getvalue()})
    words = ["train", "data=image_folder", "data.path=mine", "data.classes=2", "model.layers.output.units=2",
             "tracking=none", "trainer.epochs=5", "trainer.batch_size=8", "data.stratify=true", "--json"]  # fmt: skip
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["test_accuracy"] == 1.0


def test_a_stratified_cut_gives_every_part_the_shares_of_the_whole(tmp_path):
    x = np.zeros((100, 4, 4, 1), np.float32)
    y = np.repeat([0, 1, 2], [60, 30, 10])
    np.savez(tmp_path / "a.npz", x=x + np.arange(100)[:, None, None, None], y=y)
    words = ["data=npz", "data.path=a.npz", "data.classes=3", "data.test=0.2", "data.validation=0.25",
             "model.input=[32,32,1]", "model.layers.output.units=3"]  # fmt: skip
    cut = load(validate(compose([*words, "data.stratify=true"])).data, (4, 4, 1), 0)
    for split in (cut.train, cut.validation, cut.test):
        assert np.bincount(split.y) / len(split) == pytest.approx([0.6, 0.3, 0.1], abs=0.06)
    every = np.concatenate([s.x[:, 0, 0, 0] for s in (cut.train, cut.validation, cut.test)])
    assert len(set(every.tolist())) == 100
    other = load(validate(compose([*words, "data.stratify=true", "seed=1"])).data, (4, 4, 1), 1)
    assert not np.array_equal(cut.test.x, other.test.x)
    np.savez(tmp_path / "t.npz", x=x, y=np.zeros(100))
    with pytest.raises(DataError, match="the labels are no classes"):
        load(
            validate(compose([*words[:1], "data.path=t.npz", "data.stratify=true"]), match_data=False).data,
            (4, 4, 1),
            0,
        )


def test_a_picture_of_far_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    folder(tmp_path, {"p/a/1.png": picture(1), "p/b/1.png": picture(2, size=(4, 4))})
    with pytest.raises(DataError, match=r"a/1.png cannot be read as a picture") as error:
        read(path="p")
    assert "more pixels than are safe" in str(error.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # of more than twice that Pillow does not warn, it refuses
    with pytest.raises(DataError, match="more pixels than are safe"):
        read(path="p")
