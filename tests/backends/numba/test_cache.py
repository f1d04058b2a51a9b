"""Where compiled kernels are kept."""

import os
import stat
import subprocess
import sys

import pytest

from cnnforge.backends.numba import cache


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_the_folder_is_the_users_alone(own_cache):
    made = cache.folder()
    assert made is not None
    assert made.parent == own_cache / "cnnforge"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert cache.folder() == made


def test_a_folder_that_others_may_write_to_is_not_used(own_cache):
    made = cache.folder()
    made.chmod(0o777)
    assert cache.folder() is None


def test_a_folder_of_someone_else_is_not_used(own_cache, monkeypatch):
    cache.folder()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert cache.folder() is None


def test_where_no_folder_can_be_made_nothing_is_kept(own_cache):
    (own_cache / "cnnforge").write_text("a file")
    assert cache.folder() is None


def test_a_damaged_cache_is_made_anew_with_one_line(own_cache):
    """Two processes compile and keep; a third meets rubbish, computes all the same, and the fourth has it again."""
    code = (
        "import numpy as np\nfrom cnnforge.backends import create\nx = np.array([-1, 2], np.float32)\n"
        "create('numba').kernel('relu')((x,), (x,), ())()\nassert list(x) == [0, 2]"
    )

    def run() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stderr

    assert run() == run() == ""
    files = [file for file in own_cache.rglob("*.nb?") if file.is_file()]
    assert files
    for file in files:
        file.write_text("rubbish")
    (line,) = run().splitlines()
    assert line.startswith("note: the cache of compiled kernels was damaged (")
    assert run() == run() == ""


@pytest.mark.parametrize("changed", ["version", "source"])
def test_another_library_or_source_is_another_folder(own_cache, monkeypatch, changed):
    before = cache.folder()
    cache._key.cache_clear()
    if changed == "version":
        monkeypatch.setattr(cache, "version", lambda name: "0")
    else:
        read = cache.Path.read_bytes
        monkeypatch.setattr(cache.Path, "read_bytes", lambda self: read(self) + b" ")
    assert cache.folder() != before
    cache._key.cache_clear()
