"""Looking over a folder of pictures without decoding them."""

import tarfile

import pytest
from PIL import Image

from cnnforge.data.survey import LOOKED_AT, survey
from cnnforge.errors import DataError


@pytest.fixture
def pets(tmp_path):
    sizes = {"dog/1.png": (30, 40), "dog/2.jpg": (20, 60), "cat/1.png": (50, 25), "bird/x.bmp": (90, 80)}
    for name, size in sizes.items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "pets" / name)
    (tmp_path / "pets/dog/notes.txt").write_text("no picture")
    (tmp_path / "pets/alone.png").write_bytes((tmp_path / "pets/dog/1.png").read_bytes())
    return tmp_path / "pets"


def test_a_folder(pets):
    found = survey(pets)
    assert found.counts == {"bird": 1, "cat": 1, "dog": 2}
    assert sorted(found.sizes) == [(25, 50), (40, 30), (60, 20), (80, 90)]
    assert (found.side, found.grey, found.tested) == (30, False, False)


def test_an_archive_holds_the_same(pets, tmp_path):
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        archive.add(pets, "train")
    found = survey(tmp_path / "pets.tar.gz")
    assert (found.counts, sorted(found.sizes)) == (survey(pets).counts, sorted(survey(pets).sizes))


def test_grey_pictures_and_a_broken_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "a/2.png").write_bytes(b"broken")
    found = survey(tmp_path)
    assert (found.counts, found.sizes, found.grey) == ({"a": 2, "b": 1}, ((8, 8), (8, 8)), True)


def test_of_many_some_of_every_class_are_looked_at(tmp_path):
    for name, size in (("a", (8, 8)), ("b", (16, 16))):
        (tmp_path / name).mkdir()
        Image.new("L", size).save(tmp_path / name / "0.png")
        for i in range(1, 2 * LOOKED_AT):
            (tmp_path / name / f"{i}.png").hardlink_to(tmp_path / name / "0.png")
    found = survey(tmp_path)
    assert LOOKED_AT <= len(found.sizes) < 2 * LOOKED_AT
    assert set(found.sizes) == {(8, 8), (16, 16)}


def test_one_class_is_none(pets):
    with pytest.raises(DataError) as caught:
        survey(pets / "dog")
    assert str(caught.value).endswith(
        "  why:   none are there\n"
        "  fix:   a folder for each class: CLASS/NAME.png, or train/CLASS/NAME.png and test/CLASS/NAME.png"
    )
