from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cnnforge.data import idx, load
from cnnforge.errors import DataError
from cnnforge.spec import MnistData


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def small_idx(empty_places: Path) -> Path:
    """A folder with four plain IDX files: 40 + 10 pictures of 6x5."""
    folder = empty_places / "idx"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 10)):
        pictures = numbers.integers(0, 256, (n, 6, 5), dtype=np.uint8)
        labels = numbers.integers(0, 10, n, dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(pictures))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


def mnist(folder: Path, **fields: object) -> MnistData:
    return MnistData(type="mnist", root=str(folder), **fields)


@given(st.sampled_from([1, 3]).flatmap(lambda d: arrays(np.uint8, array_shapes(min_dims=d, max_dims=d))))
def test_what_was_written_is_read(array: np.ndarray) -> None:
    np.testing.assert_array_equal(idx.parse(idx_bytes(array), Path("x"), array.ndim), array)


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_a_data_error(content: bytes) -> None:
    with suppress(DataError):
        assert idx.parse(b"\0\0\x08\x01" + content, Path("x"), 1).ndim == 1


@pytest.mark.parametrize(
    ("content", "what", "why", "fix"),
    [
        (b"\x89PNG....", "x is not an IDX file",
         "it begins with 89 50 4e 47, an IDX file of 3 axes with 00 00 08 03",
         "put the IDX file there, plain or gzip"),
        (b"", "x is not an IDX file", "it begins with nothing, an IDX file of 3 axes with 00 00 08 03",
         "put the IDX file there, plain or gzip"),
        (b"\0\0\x0d\x03" + bytes(12), "x holds float32 values",
         "its type is 0x0d; pictures and labels are unsigned bytes, 0x08",
         "store unsigned bytes, or use data=npz, which takes floats"),
        (b"\0\0\x08\x01" + bytes(4), "x has 1 axes where 3 belong",
         "pictures have 3 axes (n, height, width), labels 1", "are the files of pictures and labels swapped?"),
        (b"\0\0\x08\x04" + bytes(16), "x has 4 axes where 3 belong",
         "pictures have 3 axes (n, height, width), labels 1", "check the file"),
        (b"\0\0\x08\x03" + bytes(7), "x is not a whole IDX file", "it ends after 11 bytes, inside its header of 16",
         "copy or download the file again"),
        (idx_bytes(np.zeros((2, 30, 20), np.uint8))[:-1], "x is not a whole IDX file",
         "its header says 2x30x20 = 1,200 bytes, and 1,199 follow", "copy or download the file again"),
        (idx_bytes(np.zeros((2, 30, 20), np.uint8)) + b"\0", "x is not a whole IDX file",
         "its header says 2x30x20 = 1,200 bytes, and 1,201 follow", "copy or download the file again"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "x is not a whole IDX file",
         "its header says 4294967295x4294967295x4294967295 = 79,228,162,458,924,105,385,300,197,375 bytes, "
         "and 0 follow", "copy or download the file again"),
    ],
)  # fmt: skip
def test_damaged(content: bytes, what: str, why: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        idx.parse(content, Path("x"), 3)
    assert str(caught.value) == f"{what}\n  where: x\n  why:   {why}\n  fix:   {fix}"


def test_other_data_of_the_format_is_a_note(small_idx: Path) -> None:
    data = load(mnist(small_idx), (6, 5, 1), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    assert data.notes == (f"not the original MNIST, used as it is: {', '.join(idx.NAMES)}",)
    assert data.source == "idx"
    assert data.digest == sha256(b"".join((small_idx / name).read_bytes() for name in idx.NAMES)).hexdigest()


def test_compressed_and_plain_files_are_the_same_data(small_idx: Path) -> None:
    plain = load(mnist(small_idx), (6, 5, 1), seed=0)
    for name in idx.NAMES:
        path = small_idx / name
        (small_idx / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load(mnist(small_idx), (6, 5, 1), seed=0)
    assert packed.digest == plain.digest
    np.testing.assert_array_equal(packed.train.x, plain.train.x)


def test_counts_differ(small_idx: Path) -> None:
    (small_idx / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(9, np.uint8)))
    with pytest.raises(DataError) as caught:
        load(mnist(small_idx), (6, 5, 1), seed=0)
    assert str(caught.value) == (
        "10 pictures and 9 labels\n"
        "  where: idx\n"
        "  why:   t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte belong together, one label for each picture\n"
        "  fix:   take both from the same source"
    )


def test_labels_outside_0_to_9(small_idx: Path) -> None:
    (small_idx / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1] * 9 + [10], np.uint8)))
    with pytest.raises(DataError) as caught:
        load(mnist(small_idx), (6, 5, 1), seed=0)
    assert str(caught.value) == (
        "t10k-labels-idx1-ubyte holds labels outside 0 to 9\n"
        "  where: idx\n"
        "  why:   sample 9 has the label 10; 10 classes are numbered 0 to 9\n"
        "  fix:   count from 0: y - 1"
    )


def test_parts_of_different_sizes(small_idx: Path) -> None:
    (small_idx / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((10, 6, 6), np.uint8)))
    with pytest.raises(DataError) as caught:
        load(mnist(small_idx), (6, 5, 1), seed=0)
    assert str(caught.value) == (
        "mnist: pictures of different sizes\n"
        "  where: idx\n"
        "  why:   training pictures are 6x5x1, test pictures are 6x6x1\n"
        "  fix:   store every part's pictures in the same size"
    )


def test_missing(empty_places: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNFORGE_DATA", str(tmp_path / "sets"))
    (empty_places / "some").mkdir()
    (empty_places / "some" / "t10k-labels-idx1-ubyte.gz").touch()
    with pytest.raises(DataError) as caught:
        load(mnist(Path("some")), (32, 32, 3), seed=0)
    assert str(caught.value) == (
        "mnist: the data files are not there\n"
        f"  where: some (data.root); {tmp_path}/sets/mnist ($CNNFORGE_DATA/mnist); "
        f"{tmp_path}/cache/cnnforge/data/mnist (the user's cache)\n"
        "  why:   wanted train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte, each plain or .gz; "
        "some lacks train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte; "
        "they could not be downloaded: CNNFORGE_OFFLINE is set, so nothing is downloaded\n"
        "  fix:   CNNFORGE_DATA=FOLDER cnnforge train …, where FOLDER/mnist has the four files; "
        "or data=digits, which needs none"
    )


def test_real_mnist(mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNFORGE_DATA", str(mnist_folder.parent))
    data = load(MnistData(type="mnist"), (32, 32, 3), seed=0)
    assert data.notes == ("pictures 28x28x1 -> 32x32x3: bilinear, channel repeated 3 times",)
    assert data.source == str(mnist_folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.train.x.shape[1:] == (32, 32, 1)
    assert data.train.x.dtype == np.uint8
    assert sum(split.x.nbytes for split in (data.train, data.validation, data.test)) < 100e6
    assert data.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = np.bincount(data.train.y) + np.bincount(data.validation.y)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    small = load(MnistData(type="mnist", validation=0, normalize="unit"), (28, 28, 1), seed=0)
    # The published mean and deviation of MNIST, on the scale of 0 to 1.
    pixels = small.preprocessing.normalize(small.train.x)
    assert (round(float(pixels.mean(dtype=np.float64)), 4), round(float(pixels.std(dtype=np.float64)), 4)) == (
        0.1307,
        0.3081,
    )
