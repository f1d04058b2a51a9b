"""Kernels compiled in processes of their own."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from cnnforge.backends.numba import prepare as module
from cnnforge.backends.numba.driver import bound
from cnnforge.backends.numba.prepare import prepare
from cnnforge.backends.numba.signature import Kernel
from tests.backends.numba.tiny import ADDING, adding


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty cache, kernels without addresses, and two processes even for few."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "WORTH", 1)
    monkeypatch.setattr(module, "THREADS", 2)
    forget()
    return tmp_path / "cnnforge" / "kernels"


def forget() -> None:
    for kernel in ADDING:
        kernel._address = 0


def sums() -> list[int]:
    x = np.zeros(2, np.int64)
    for kernel in ADDING:
        bound(kernel, 2, 1, x, 2)()
    return x.tolist()


def test_processes_compile_what_is_missing(empty, monkeypatch):
    reports = []
    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "compile", lambda kernel: pytest.fail("compiled here"))
        prepare([*ADDING, *ADDING], lambda *done: reports.append(done))
    assert reports == [(done, 4) for done in range(5)]
    assert sums() == [6, 6]
    assert len(list(empty.glob("*.add-*"))) == 4
    for again in (lambda: None, forget):  # known, then kept
        again()
        prepare(ADDING, lambda *done: pytest.fail("nothing was missing"))
    forget()
    ADDING[0]._address = 0
    next(empty.glob(f"{ADDING[0].name}*")).unlink()
    prepare(ADDING, lambda *done: reports.append(done))
    assert reports[5:] == [(0, 1), (1, 1)]


@pytest.mark.parametrize("python", ["python-false", "python-nowhere", "sleep", None])
def test_where_no_process_helps_it_is_done_here(monkeypatch, tmp_path, python):
    (tmp_path / "python-false").symlink_to(shutil.which("false"))
    monkeypatch.setattr(sys, "executable", python and str(tmp_path / python))
    reports = []
    prepare(ADDING, lambda *done: reports.append(done))
    assert reports == [(done, 4) for done in range(5)]
    assert sums() == [6, 6]


def test_a_kernel_that_no_other_process_finds_is_compiled_here(monkeypatch):
    local, here, compile_here = adding(17), [], Kernel.compile

    def noted(kernel):
        here.append(kernel)
        return compile_here(kernel)

    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "compile", noted)
        prepare([*ADDING, local], lambda *done: None)
    assert here == [local]
    x = np.zeros(1, np.int64)
    bound(local, 1, 1, x, 1)()
    assert x == 17


def test_who_hears_the_report_can_end_it(monkeypatch):
    started, start = [], module._started
    monkeypatch.setattr(module, "_started", lambda n: started.extend(start(n)) or started)

    def report(done, total):
        if done == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        prepare(ADDING, report)
    assert [worker.process.returncode for worker in started] == [-9, -9]


def test_what_is_wrong_with_a_kernel_is_said_here():
    def wrong(block: int, lo: int, hi: int, thread: int) -> None:
        object.nothing  # noqa: B018

    with pytest.raises(Exception, match="nothing"):
        prepare([Kernel(wrong), Kernel(lambda block, lo, hi, thread: None)], lambda *done: None)


def test_what_a_module_prints_is_not_taken_for_an_answer(monkeypatch, tmp_path):
    (tmp_path / "loud.py").write_text("print('x' * 100, flush=True)")
    monkeypatch.syspath_prepend(tmp_path)
    worker = module._Worker()
    try:
        loud = SimpleNamespace(function=SimpleNamespace(__module__="loud"), name="loud.kernel")
        assert worker.compiled(loud) == b""
        assert worker.compiled(ADDING[0]).startswith(b"\x7fELF")
        worker.process.kill()
        assert worker.compiled(ADDING[0]) == b""
    finally:
        worker.process.kill()
        worker.close()
