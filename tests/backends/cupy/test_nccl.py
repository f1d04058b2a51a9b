"""NCCL's calls, by its own prototypes, over a library that stands for it."""

import os

import pytest

from cnnforge.backends.cupy.failures import LibraryError
from cnnforge.backends.cupy.nccl import NVLS, Nccl
from cnnforge.backends.together import Single
from tests.backends.cupy.emulator import fake_nccl
from tests.ranks import together


def joined(ranks):
    return Nccl(str(fake_nccl()), ranks, 0)


def test_a_refusal_has_nccl_s_words():
    nccl = joined(Single())
    with pytest.raises(LibraryError, match=r"^NCCL: 4 \(invalid argument\): no such sum$"):
        nccl.sum(0, 1 << 40, "float32")


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_sums_are_of_what_gradients_are(dtype):
    with pytest.raises(KeyError):
        joined(Single()).sum(0, 1, dtype)


def test_a_first_process_without_an_id_is_an_error_of_all():
    """The others wait for it: they are told."""

    class Failing(Single):
        def every(self, value):
            return [(2, value[1])]

    with pytest.raises(LibraryError, match=r"^NCCL: 2 \(a system error\)"):
        joined(Failing())


def test_sums_in_the_switch_are_off_unless_asked_for(monkeypatch):
    monkeypatch.setenv(NVLS, "1")
    joined(Single())
    assert os.environ[NVLS] == "1"
    monkeypatch.delenv(NVLS)
    joined(Single())
    assert os.environ[NVLS] == "0"


def test_the_others_are_waited_for_under_a_watch():
    waited = []

    def meet(ranks):
        wait = ranks.wait
        ranks.wait = lambda call, *arguments: waited.append(ranks.rank) or wait(call, *arguments)
        joined(ranks)

    assert together(2, meet) == [None, None]
    assert sorted(waited) == [0, 1]
