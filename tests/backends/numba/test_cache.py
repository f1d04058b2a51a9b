"""Where compiled kernels are kept."""

import os
import stat

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


@pytest.mark.parametrize("changed", ["version", "source"])
def test_another_library_or_source_is_another_folder(own_cache, monkeypatch, changed):
    before = cache.folder()
    if changed == "version":
        monkeypatch.setattr(cache, "version", lambda name: "0")
    else:
        read = cache.Path.read_bytes
        monkeypatch.setattr(cache.Path, "read_bytes", lambda self: read(self) + b" ")
    assert cache.folder() != before
