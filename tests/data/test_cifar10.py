"""CIFAR-10 in both published forms, and pickles that are no plain data."""

import io
import os
import pickle
import tarfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.data import cifar10
from cnnforge.data.plain_pickle import RefusedError, loads
from cnnforge.errors import DataError
from cnnforge.spec import Cifar10Data

N = 4


def data():
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 256, (N, 3072), np.uint8), rng.integers(0, 10, N).tolist())
            for name in (*cifar10.TRAIN, cifar10.TEST)}  # fmt: skip


def as_binary(x, y):
    return np.concatenate([np.array(y, np.uint8)[:, None], x], axis=1).tobytes()


def as_pickle(x, y, protocol=2):
    return pickle.dumps({b"batch_label": b"one of 1", b"labels": y, b"data": x, b"filenames": [b"a.png"] * N}, protocol)


def archive(path, folder, files):
    with tarfile.open(path, "w:gz") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))


def lay(root, form):
    """The data set in one of its forms; its pictures and labels."""
    held = data()
    ending, encode = (".bin", as_binary) if "bin" in form else ("", as_pickle)
    files = {f"{name}{ending}": encode(*pair) for name, pair in held.items()}
    if form.endswith("tar"):
        name = cifar10.ARCHIVES[0 if "bin" in form else 1]
        archive(root / name, "cifar", files | {"batches.meta.txt": b"airplane"})
    else:
        folder = root / cifar10.FOLDERS[0 if "bin" in form else 1]
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return held


@pytest.mark.parametrize("form", ["bin", "py", "bin tar", "py tar"])
def test_every_form_gives_the_same(tmp_path, form):
    held = lay(tmp_path, form)
    stored = cifar10.read(Cifar10Data(type="cifar10", root=str(tmp_path)))
    assert stored.train.x.shape == (5 * N, 32, 32, 3)
    assert stored.class_names[3] == "cat"
    x, y = held["data_batch_2"]
    np.testing.assert_array_equal(stored.train.x[N : 2 * N].transpose(0, 3, 1, 2).reshape(N, -1), x)
    assert stored.train.y[N : 2 * N].tolist() == y
    assert stored.test.y.tolist() == held["test_batch"][1]
    other = tmp_path / "other"
    other.mkdir()
    lay(other, "bin")
    assert cifar10.read(Cifar10Data(type="cifar10", root=str(other))).digest == stored.digest


def test_what_is_missing_or_damaged_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)
    with pytest.raises(DataError, match="cifar10: the data files are not there") as error:
        cifar10.read(Cifar10Data(type="cifar10", root=str(tmp_path)))
    assert "cifar-10-binary.tar.gz" in str(error.value)
    lay(tmp_path, "bin")
    folder = tmp_path / cifar10.FOLDERS[0]
    content = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_3.bin is damaged"):
        cifar10.read(Cifar10Data(type="cifar10", root=str(tmp_path)))
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing"):
        cifar10.read(Cifar10Data(type="cifar10", root=str(tmp_path)))


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (bytearray, 5), (np.dtype, "O")])
def test_a_pickle_that_would_run_something_is_refused_and_not_run(tmp_path, call, protocol):
    target = tmp_path / "owned"
    function, argument = call
    argument = argument.format(str(target)) if isinstance(argument, str) else argument
    with pytest.raises(RefusedError):
        loads(pickle.dumps({"data": Evil(function, argument)}, protocol))
    lay(tmp_path, "py")
    (tmp_path / cifar10.FOLDERS[1] / "data_batch_1").write_bytes(pickle.dumps([Evil(function, argument)], protocol))
    with pytest.raises(DataError, match="data_batch_1 is not what it should be") as error:
        cifar10.read(Cifar10Data(type="cifar10", root=str(tmp_path)))
    assert "a pickle can run any program" in str(error.value)
    assert not target.exists()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(value=plain, protocol=st.integers(2, 5))
def test_plain_data_come_back(value, protocol):
    assert loads(pickle.dumps(value, protocol)) == value


@settings(max_examples=300)
@given(value=plain, at=st.integers(0, 200), byte=st.integers(0, 255))
def test_whatever_the_bytes_are_nothing_but_a_refusal_is_raised(value, at, byte):
    content = bytearray(pickle.dumps(value, 2))
    content[at % len(content)] = byte
    with suppress(RefusedError):
        loads(bytes(content))


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_bytes(protocol, order):
    array = np.asarray(np.arange(24, dtype=np.uint8).reshape(4, 6), order=order)
    np.testing.assert_array_equal(loads(pickle.dumps({"a": array}, protocol))["a"], array)
    with pytest.raises(RefusedError):
        loads(pickle.dumps(array.astype(np.float32), protocol))
