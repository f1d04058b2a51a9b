from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.data import load, npz
from cnnforge.errors import DataError
from cnnforge.spec import NpzData

X = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
Y = np.arange(20) % 4


def spec(**fields: object) -> NpzData:
    return NpzData(type="npz", **{"path": "d.npz", "classes": 4, **fields})


def stored(arrays: dict[str, np.ndarray], **fields: object):  # type: ignore[no-untyped-def]
    np.savez("d.npz", **arrays)  # type: ignore[arg-type]
    return npz.read(spec(**fields))


def test_x_and_y_are_split() -> None:
    np.savez_compressed("d.npz", x=X, y=Y)
    data = load(spec(), (6, 5, 3), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert (data.source, data.classes, data.class_names) == ("d.npz", 4, ("0", "1", "2", "3"))
    assert data.notes == ()


def test_own_parts_are_kept_in_order() -> None:
    np.savez("d.npz", x_train=X, y_train=Y, x_val=X[:3], y_val=Y[:3], x_test=X[3:9], y_test=Y[3:9], extra=Y)
    data = load(spec(), (6, 5, 3), seed=0)
    assert len(data.train) == 20
    np.testing.assert_array_equal(data.validation.x, X[:3])
    np.testing.assert_array_equal(data.test.x, X[3:9])
    np.testing.assert_array_equal(data.test.y, Y[3:9])
    assert data.notes == ("arrays not used: extra",)


def test_digest_is_of_the_decompressed_members() -> None:
    plain = stored({"x": X, "y": Y}).digest
    np.savez_compressed("d.npz", x=X, y=Y)
    with zipfile.ZipFile("d.npz") as archive:
        whole = archive.read("x.npy") + archive.read("y.npy")
    assert npz.read(spec()).digest == plain == sha256(whole).hexdigest()


@pytest.mark.parametrize(
    ("arrays", "fields", "note"),
    [
        ({"x": X, "y": Y}, {}, ""),
        ({"x": X.transpose(0, 3, 1, 2), "y": Y}, {"layout": "channels_first"}, ""),
        ({"x": np.asfortranarray(X), "y": Y}, {}, ""),
        ({"x": X.astype(np.int64), "y": Y}, {}, ""),
        ({"x": X, "y": Y[:, None]}, {}, ""),
        ({"x": X, "y": Y.astype(np.float32)}, {}, ""),
        ({"x": X, "y": Y.astype(np.uint8)}, {}, ""),
    ],
)
def test_forms_that_mean_the_same(arrays: dict[str, np.ndarray], fields: dict[str, object], note: str) -> None:
    got = stored(arrays, **fields)
    assert (got.train.x.dtype, got.train.y.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(got.train.x, X)
    np.testing.assert_array_equal(got.train.y, Y)
    assert got.notes == ((note,) if note else ())


def test_pictures_without_a_channel_axis() -> None:
    for layout in ("channels_last", "channels_first"):
        assert stored({"x": X[..., 0], "y": Y}, layout=layout).train.x.shape == (20, 6, 5, 1)


def test_true_and_false() -> None:
    got = stored({"x": X > 127, "y": Y > 1}, classes=2)
    np.testing.assert_array_equal(got.train.x, np.where(X > 127, 255, 0))
    np.testing.assert_array_equal(got.train.y, Y > 1)
    assert got.notes == ("pictures are true or false: taken as 255 and 0",)


def test_floats_stay_as_they_are() -> None:
    x = np.random.default_rng(0).normal(size=X.shape)
    got = stored({"x": x, "y": Y}).train.x
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x.astype(np.float32))


def test_whole_numbers_outside_8_bit_become_floats() -> None:
    got = stored({"x": X.astype(np.int32) * 16, "y": Y})
    assert got.train.x.dtype == np.float32
    assert got.notes == (f"pictures are whole numbers from {X.min() * 16} to 4080, outside 0..255: taken as floats",)


def test_targets() -> None:
    got = stored({"x": X, "y": np.ones((20, 2))}, classes=None)
    assert (got.train.y.dtype, got.train.y.shape, got.classes, got.class_names) == (np.float64, (20, 2), None, ())
    whole = stored({"x": X, "y": Y}, classes=None)
    assert whole.train.y.dtype == np.float32
    assert whole.notes == ("labels are whole numbers and data.classes is not given: taken as targets, not as classes",)


def test_where_a_relative_path_is_looked_for(empty_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNFORGE_DATA", str(empty_places / "sets"))
    for folder in ("root", "sets/npz"):
        (empty_places / folder).mkdir(parents=True)
        np.savez(empty_places / folder / "d.npz", x=X, y=Y)
    assert npz.read(spec()).source == "sets/npz/d.npz"
    np.savez("d.npz", x=X, y=Y)
    assert npz.read(spec()).source == "d.npz"
    assert npz.read(spec(root="root")).source == "root/d.npz"
    assert npz.read(spec(path=str(empty_places / "root" / "d.npz"))).source == "root/d.npz"


def test_missing_file(empty_places: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        npz.read(spec(path="sub/no.npz", root="r"))
    assert str(caught.value) == (
        "npz: the data file is not there\n"
        f"  where: r (data.root); . (the working directory); {tmp_path}/cache/cnnforge/data/npz (the user's cache)\n"
        "  why:   wanted sub/no.npz\n"
        "  fix:   data.path=FILE with its whole path, or data.root=FOLDER that has it"
    )
    with pytest.raises(DataError, match="the data file is not there") as caught:
        npz.read(spec(path="/nowhere/no.npz"))
    assert caught.value.where == "/nowhere (data.path)"


def ragged() -> np.ndarray:
    rows = np.empty(2, object)
    rows[:] = [[1], [2, 3]]
    return rows


def with_nan() -> np.ndarray:
    x = X.astype(np.float64)
    x[7, 0, 0, 0] = np.nan
    return x


PICTURES = "pixels are uint8 from 0 to 255, or floats"
SHAPES = "pictures are (N, height, width, channels), or (N, height, width) for one channel"
NAMES = "np.savez(path, x=pictures, y=labels), or x_train, y_train, x_test, y_test"
WRONG: list[tuple[dict[str, np.ndarray], int | None, str, str, str]] = [
    ({"images": X, "labels": Y}, 4, "the npz file has no array x and no y", "it holds images, labels", NAMES),
    ({"x_train": X, "y": Y}, 4, "the npz file has no array y_train", "it holds x_train, y", NAMES),
    ({"x": X, "y": Y, "x_test": X}, 4, "the npz file has no array y_test", "it holds x, x_test, y", NAMES),
    ({"x": ragged(), "y": Y}, 4, "x is an array of Python objects",
     "reading it would run code from the file; rows of different lengths make such arrays",
     "store numbers in one regular array: np.stack(x)"),
    ({"x": X[:, 0, 0], "y": Y}, 4, "x has the shape (20, 3)", SHAPES, "x.reshape(-1, height, width, channels)"),
    ({"x": X[:, :0], "y": Y}, 4, "x has the shape (20, 0, 5, 3)", SHAPES, "x.reshape(-1, height, width, channels)"),
    ({"x": X.astype(complex), "y": Y}, 4, "x holds complex128, not pixels", PICTURES, "store numbers"),
    ({"x": X.astype(str), "y": Y}, 4, "x holds <U3, not pixels", PICTURES, "store numbers"),
    ({"x": X, "y": Y[:19]}, 4, "20 pictures and 19 labels", "x and y belong together, one label for each picture",
     "take both from the same source"),
    ({"x": X, "y": np.array(3)}, 4, "y is a single number", "there are 20 pictures, and one label belongs to each",
     "store y with shape (N,)"),
    ({"x": X, "y": Y, "x_test": X / 255, "y_test": Y}, 4, "pictures of different kinds",
     "x is uint8, x_test is float64", "store all of them as uint8 from 0 to 255, or all as floats on one scale"),
    ({"x": with_nan(), "y": Y}, 4, "x holds NaN or infinite values", "sample 7 is the first that does",
     "remove those samples, or repair them with np.nan_to_num"),
    ({"x": X * 1e300, "y": Y}, 4, "x holds NaN or infinite values", "sample 0 is the first that does",
     "remove those samples, or repair them with np.nan_to_num"),
    ({"x": X, "y": np.eye(4)[Y]}, 4, "y has the shape (20, 4)",
     "class numbers have one axis, (N,); this looks like one-hot vectors", "store y.argmax(axis=1)"),
    ({"x": X, "y": np.zeros((20, 3))}, 4, "y has the shape (20, 3)", "class numbers have one axis, (N,)",
     "store one class number per picture"),
    ({"x": X, "y": Y.astype(str)}, 4, "y holds <U21, not class numbers", "a class is a whole number from 0",
     "number the classes: classes, y = np.unique(names, return_inverse=True)"),
    ({"x": X, "y": Y + 0.5}, 4, "y holds numbers that are not whole", "sample 0 has the label 0.5",
     "whole class numbers, or leave data.classes out and end with loss: mse for targets"),
    ({"x": X, "y": np.full(20, np.nan)}, 4, "y holds numbers that are not whole", "sample 0 has the label nan",
     "whole class numbers, or leave data.classes out and end with loss: mse for targets"),
    ({"x": X, "y": Y - 1}, 4, "y holds labels outside 0 to 3",
     "sample 0 has the label -1; 4 classes are numbered 0 to 3", "number the classes from 0"),
    ({"x": X, "y": Y + 1}, 4, "y holds labels outside 0 to 3",
     "sample 3 has the label 4; 4 classes are numbered 0 to 3", "count from 0: y - 1"),
    ({"x": X, "y": Y}, 2, "y holds labels outside 0 to 1",
     "sample 2 has the label 2; 2 classes are numbered 0 to 1", "data.classes: 4, if that many classes are meant"),
    ({"x": X, "y": Y.astype(str)}, None, "y holds <U21, not numbers", "targets are numbers; names of classes are not",
     "data.classes, and class numbers from 0 for labels; or targets as floats"),
    ({"x": X, "y": np.full(20, np.inf)}, None, "y holds NaN or infinite values", "sample 0 is the first that does",
     "remove those samples, or repair them with np.nan_to_num"),
    ({"x": X, "y": np.ones((20, 2)), "x_val": X, "y_val": np.ones(20)}, None, "labels of different shapes",
     "y is (N, 2), y_val is (N,)", "store every part's labels in the same shape"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "classes", "what", "why", "fix"), WRONG, ids=[w[2] for w in WRONG])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_wrong_arrays(arrays: dict[str, np.ndarray], classes: int | None, what: str, why: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        stored(arrays, classes=classes)
    assert str(caught.value) == f"{what}\n  where: d.npz\n  why:   {why}\n  fix:   {fix}"
    assert caught.value.exit_code == 3


def overwritten(at: int, content: bytes) -> Callable[[bytes], bytes]:
    return lambda whole: whole[:at] + content + whole[at + len(content) :]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda whole: b"", "BadZipFile: File is not a zip file"),
        (lambda whole: whole[: len(whole) // 2], "BadZipFile: File is not a zip file"),
        (overwritten(1000, b"\xff"), "BadZipFile: Bad CRC-32 for file 'x.npy'"),
    ],
)
def test_damaged_file(damage: Callable[[bytes], bytes], why: str) -> None:
    np.savez("d.npz", x=X, y=Y)
    whole = Path("d.npz").read_bytes()
    Path("d.npz").write_bytes(damage(whole))
    with pytest.raises(DataError) as caught:
        npz.read(spec())
    what, where, reason, fix = str(caught.value).split("\n")
    assert (what, where) == ("d.npz is not a whole npz file", "  where: d.npz")
    assert reason.startswith(f"  why:   {why}")
    assert fix == "  fix:   write it again with np.savez(path, x=pictures, y=labels)"


def test_member_that_is_no_array() -> None:
    with zipfile.ZipFile("d.npz", "w") as archive:
        archive.writestr("x.npy", b"hello, world")
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match="not a whole npz file") as caught:
        npz.read(spec())
    assert caught.value.why.startswith("ValueError: the magic string is not correct")


@pytest.mark.parametrize(
    "header",
    [
        "(" * 5000,
        "[" * 200 + "]" * 200,
        "'" * 3,
        "  (\n1",
        "{1: 2, 'a': 3, 'b': 4}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': ('a',)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 99999999)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999999999,)}",
    ],
)
def test_hostile_headers(header: str) -> None:
    with zipfile.ZipFile("d.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(20))
        archive.writestr("y.npy", b"")
    with pytest.raises(DataError, match="not a whole npz file"):
        npz.read(spec())


def test_objects_inside_a_structure() -> None:
    np.savez("d.npz", x=np.zeros(3, [("a", "u1"), ("b", "O")]), y=Y)
    with pytest.raises(DataError, match="x is an array of Python objects"):
        npz.read(spec())


def test_bytes_after_an_array() -> None:
    with zipfile.ZipFile("d.npz", "w") as archive:
        for name, array in (("x", X), ("y", Y)):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
                member.write(b"more")
    with pytest.raises(DataError, match="not a whole npz file") as caught:
        npz.read(spec())
    assert caught.value.why == "ValueError: bytes follow the array x"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_damage_is_found_or_harmless(spots: list[tuple[int, bytes]]) -> None:
    np.savez_compressed("d.npz", x=X[:4, :2, :2], y=Y[:4])
    whole = Path("d.npz").read_bytes()
    for at, content in spots:
        whole = overwritten(at % len(whole), content)(whole)
    Path("d.npz").write_bytes(whole)
    with suppress(DataError):
        npz.read(spec())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 140), st.binary(min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_header_of_an_array_is_read_or_refused(at: int, content: bytes) -> None:
    """Damage that the checksum of the zip file agrees with."""
    np.savez("whole.npz", x=X[:4, :2, :2], y=Y[:4])
    with zipfile.ZipFile("whole.npz") as archive, zipfile.ZipFile("d.npz", "w") as changed:
        changed.writestr("x.npy", overwritten(at, content)(archive.read("x.npy")))
        changed.writestr("y.npy", archive.read("y.npy"))
    with suppress(DataError):
        npz.read(spec())
