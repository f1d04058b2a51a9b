from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cnnforge.data import files
from cnnforge.errors import DataError


def test_places_come_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNFORGE_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("HOME", "/home/ada")
    places = files.places("mnist", "~/mine")
    assert [str(p) for p in places] == [
        "/home/ada/mine (data.root)",
        f"{tmp_path}/sets/mnist ($CNNFORGE_DATA/mnist)",
        f"{tmp_path}/cache/cnnforge/data/mnist (the user's cache)",
    ]
    monkeypatch.delenv("CNNFORGE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert [str(p) for p in files.places("mnist", None)] == ["/home/ada/.cache/cnnforge/data/mnist (the user's cache)"]


def test_files_come_from_the_first_place_that_has_all(empty_places: Path) -> None:
    a, b = (files.Place(empty_places / name, name) for name in "ab")
    for place in (a, b):
        place.folder.mkdir()
    (a.folder / "x").touch()
    (b.folder / "x.gz").touch()
    (b.folder / "y").touch()
    paths, place = files.locate("toy", ["x", "y"], [a, b], fix="-")
    assert (paths, place) == ([b.folder / "x.gz", b.folder / "y"], b)


def test_error_lists_every_place_and_what_is_missing(empty_places: Path) -> None:
    a, b = (files.Place(empty_places / name, f"place {name}") for name in "ab")
    a.folder.mkdir()
    (a.folder / "x").touch()
    with pytest.raises(DataError) as caught:
        files.locate("toy", ["x", "y", "z"], [a, b], fix="put them there")
    assert str(caught.value) == (
        "toy: the data files are not there\n"
        "  where: a (place a); b (place b)\n"
        "  why:   wanted x, y, z, each plain or .gz; a lacks y, z\n"
        "  fix:   put them there"
    )
    assert caught.value.exit_code == 3


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(b"hello")
    (tmp_path / "packed").write_bytes(gzip.compress(b"hello"))
    assert files.read(tmp_path / "plain.gz") == files.read(tmp_path / "packed") == b"hello"


def damage_cut(content: bytes) -> bytes:
    return content[:-12]


def damage_crc(content: bytes) -> bytes:
    return content[:-8] + b"\0\0\0\0" + content[-4:]


def damage_stream(content: bytes) -> bytes:
    return content[:10] + b"\xff" * 20 + content[30:]


def damage_header(content: bytes) -> bytes:
    return content[:5]


@pytest.mark.parametrize("damage", [damage_cut, damage_crc, damage_stream, damage_header])
def test_damaged_gzip(damage, empty_places: Path) -> None:  # type: ignore[no-untyped-def]
    path = empty_places / "x.gz"
    path.write_bytes(damage(gzip.compress(bytes(range(256)) * 4)))
    with pytest.raises(DataError) as caught:
        files.read(path)
    what, where, why, fix = str(caught.value).split("\n")
    assert what == "x.gz is not a whole gzip file"
    assert where == "  where: x.gz"
    assert why.startswith(("  why:   EOFError: ", "  why:   BadGzipFile: ", "  why:   error: "))
    assert fix == "  fix:   copy or download the file again"


def test_unreadable(empty_places: Path) -> None:
    (empty_places / "folder").mkdir()
    with pytest.raises(DataError) as caught:
        files.read(empty_places / "folder")
    assert str(caught.value) == (
        "folder cannot be read\n  where: folder\n  why:   Is a directory\n  fix:   make it a file that you may read"
    )
