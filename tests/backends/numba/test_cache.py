"""Where compiled kernels are kept."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from cnnforge.backends.numba import cache
from cnnforge.backends.numba.team import KERNELS
from tests.backends.numba.tiny import ADDING, adding

KNOWN = (cache._environment, cache._sources, cache._source, cache._file)
NAME, CODE = "kernel-0123", b"code" * 100


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cnnforge" / "kernels"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(cache, "_noted", set())
    cache._prune.cache_clear()


def said(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


class TestFiles:
    def test_what_is_kept_is_found_by_its_user_alone(self, folder, capsys):
        assert cache.kept(NAME) is None
        cache.keep(NAME, CODE)
        assert cache.kept(NAME) == CODE
        assert cache.kept("another") is None
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / f"{NAME}.o").stat().st_mode) == 0o600
        assert not said(capsys)

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b"rubbish" * 99])
    def test_what_is_damaged_is_not_used_and_made_anew_with_one_line(self, folder, capsys, damage):
        for name in (NAME, "other"):
            cache.keep(name, CODE)
            file = folder / f"{name}.o"
            file.write_bytes(damage(file.read_bytes()))
            assert cache.kept(name) is None
        assert said(capsys) == [f"note: the cache of compiled kernels was damaged and is made anew: {folder}"]
        cache.keep(NAME, CODE)
        assert cache.kept(NAME) == CODE

    def test_a_file_under_the_name_of_another_is_damage(self, folder):
        cache.keep(NAME, CODE)
        (folder / f"{NAME}.o").rename(folder / "other.o")
        assert cache.kept("other") is None

    def test_what_was_not_written_to_the_end_is_not_there(self, folder, monkeypatch):
        def die(*names):
            raise KeyboardInterrupt

        monkeypatch.setattr(cache.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            cache.keep(NAME, CODE)
        assert [file.suffix for file in folder.iterdir()] == [".new"]
        assert cache.kept(NAME) is None

    def test_where_nothing_can_be_written_what_is_there_is_read(self, folder, capsys, monkeypatch):
        def refuse(**where):
            raise PermissionError(13, "Permission denied")

        cache.keep(NAME, CODE)
        monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
        for name in ("one", "two"):
            cache.keep(name, CODE)
        assert cache.kept(NAME) == CODE
        text = f"note: compiled kernels are not kept, every run compiles them again: {folder}: permission denied"
        assert said(capsys) == [text]

    def test_a_disk_that_is_full_keeps_no_halves(self, folder, capsys, monkeypatch):
        def full(*names):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache.os, "replace", full)
        cache.keep(NAME, CODE)
        assert not list(folder.iterdir())
        assert said(capsys)[0].endswith("kernels: no space left on device")

    def test_where_nothing_can_be_read_nothing_is_kept(self, folder, capsys, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied")

        cache.keep(NAME, CODE)
        monkeypatch.setattr(cache.Path, "read_bytes", refuse)
        assert cache.kept(NAME) is cache.kept("other") is None
        assert [line[-17:] for line in said(capsys)] == ["permission denied"]

    @pytest.mark.parametrize("why", ["it belongs to someone else", "others may write to it", "file exists"])
    def test_a_folder_that_is_not_ours_is_not_used(self, folder, capsys, monkeypatch, why):
        cache.keep(NAME, CODE)
        if why == "others may write to it":
            folder.chmod(0o777)
        elif why == "file exists":
            folder.rename(folder.with_name("away"))
            folder.write_text("a file")
        else:
            monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert cache.kept(NAME) is None
        cache.keep(NAME, b"mine")
        assert cache.kept(NAME) is None
        assert said(capsys) == [f"note: compiled kernels are not kept, every run compiles them again: {folder}: {why}"]

    def test_what_nobody_used_for_long_is_removed(self, folder):
        cache.keep(NAME, CODE)
        for name in ("old.o", "dead.new"):
            (folder / name).write_bytes(b"")
            os.utime(folder / name, (0, 0))
        (folder / "gone.new").symlink_to("nowhere")  # as if renamed in between
        cache._prune.cache_clear()
        cache.keep("other", CODE)
        (folder / "gone.new").unlink()
        assert {file.name for file in folder.iterdir()} == {f"{NAME}.o", "other.o"}


class TestNames:
    @pytest.fixture(autouse=True)
    def forget(self):
        yield
        for known in KNOWN:
            known.cache_clear()

    def name(self) -> str:
        for known in KNOWN:
            known.cache_clear()
        return cache.name_of(ADDING[0].function)

    def test_a_name_says_where_the_kernel_is(self):
        assert self.name().startswith("tests.backends.numba.tiny.adding._locals_.add-")
        assert self.name() == self.name() == ADDING[0].name

    @pytest.mark.parametrize("of", ["version", "cpu"])
    def test_another_library_or_cpu_is_another_name(self, monkeypatch, of):
        before = self.name()
        owner, function = (cache.cpu, "target") if of == "cpu" else (cache, "version")
        monkeypatch.setattr(owner, function, lambda *names: ("0", "0") if of == "cpu" else "0")
        assert self.name() != before

    @pytest.mark.parametrize("file", ["tiny.py", "signature.py", "objects.py", "capabilities.py"])
    def test_another_text_of_a_file_that_it_needs_is_another_name(self, monkeypatch, file):
        before, read = self.name(), cache.Path.read_text

        def changed(path, **how):
            return read(path, **how) + (" " if path.name == file else "")

        monkeypatch.setattr(cache.Path, "read_text", changed)
        assert (self.name() != before) == (file != "capabilities.py")

    def test_imports_are_found_however_they_are_written(self):
        text = "import os.path\nfrom a.b import (\n    c,\n    d,\n)\n    from e import f, g\nx = 'import y'\n"
        assert set(cache._imported(text)) == {"os.path", "a.b", "a.b.c", "a.b.d", "e", "e.f", "e.g"}

    def test_what_is_not_loaded_is_found_too(self):
        assert cache._file("cnnforge.report.zoo").name == "zoo.py"
        assert cache._file("cnnforge.report").name == "__init__.py"
        assert cache._file("cnnforge.nothing") is cache._file("nothing") is None

    def test_what_a_kernel_takes_from_the_function_around_it_is_in_its_name(self):
        assert len({kernel.name for kernel in ADDING}) == len(ADDING)
        assert adding(1).name == ADDING[1].name
        assert adding((1, [2.0, None])).name != adding((1, [2.5, None])).name

    def test_functions_are_told_apart_by_what_they_hold(self):
        def made(n):
            return adding(lambda: n)

        assert made(1).name == made(1).name != made(2).name

    def test_what_cannot_be_told_apart_is_refused(self):
        with pytest.raises(TypeError, match="may not depend on <object"):
            adding(object()).name  # noqa: B018

    def test_a_kernel_without_a_file_is_refused(self, monkeypatch):
        monkeypatch.setattr(cache.sys, "modules", {})
        with pytest.raises(TypeError, match="kernels are written in files"):
            self.name()


RUN = """
import sys
import numpy as np
from cnnforge.backends.numba.backend import NumbaBackend
from cnnforge.backends.numba.driver import bound
from cnnforge.backends.numba.team import KERNELS
from tests.backends.numba.tiny import ADDING
x = np.zeros(2, np.int64)
(step,) = NumbaBackend(1).link([bound(ADDING[3], 2, 1, x, 2)])
step()
assert list(x) == [3, 3]
print("numba" in sys.modules)
"""


def start() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen) -> tuple[list[str], bool]:
    """What it said on stderr, and whether it had to compile."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err.splitlines(), out.strip() == "True"


def test_four_that_begin_together_leave_it_whole(folder):
    assert [end(process)[0] for process in [start() for _ in range(4)]] == [[]] * 4
    assert {file.suffix for file in folder.iterdir()} == {".o"}
    # A file of kernels that imports numba itself would have it imported here: its names come from ``language``.
    assert end(start()) == ([], False)


def test_one_that_is_killed_while_it_compiles_leaves_nothing_damaged(folder):
    process = start()
    while not folder.is_dir() or not any(folder.iterdir()):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert end(start())[0] == []
    assert end(start()) == ([], False)


@pytest.mark.parametrize("state", ["damaged", "a file", "open to all"])
def test_a_bad_cache_costs_one_line(folder, state):
    folder.parent.mkdir()
    if state == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777 if state == "open to all" else 0o700)
        for kernel in (ADDING[3], *KERNELS):
            (folder / f"{kernel.name}.o").write_bytes(b"rubbish")
    (line,), compiled = end(start())
    assert line.startswith("note: ")
    assert compiled
    if state == "damaged":
        assert end(start()) == ([], False)
