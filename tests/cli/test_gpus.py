"""What ``cnnforge doctor`` says of GPUs, of drivers that are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from cnnforge.backends.cupy import cuda, libraries
from cnnforge.cli import gpus
from tests.backends.cupy.driven import TWO, Library, loads

CUDNN = {"nvidia-cudnn-cu12": "9.28.0", "nvidia-cudnn-frontend": "1.26.0"}
WORKS = "driver for CUDA 12.4, CuPy 14.2.0 for CUDA 12.9: trainer.backend=cupy trains there, auto on the CPU"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str, str, str]]]:
    """(name, state, text, fix) of every line on a machine."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def said(
        library: Library | None,
        cupy: str | None = "14.2.0",
        there: Sequence[str] = ("cublas", "nccl"),
        built: Callable[[], int] = lambda: 12090,
        packages: Mapping[str, str] = CUDNN,
    ) -> list[tuple[str, str, str, str]]:
        have = {"cupy-cuda12x": cupy, **packages}
        monkeypatch.setattr(gpus, "_installed", have.get)
        monkeypatch.setattr(cuda, "built_for", built)
        monkeypatch.setattr(libraries, "found", lambda name: f"/lib/{name}.so" if name in there else None)
        return [(f.name, f.state, f.text, f.fix) for f in gpus.gpu(loads(library))]

    return said


def test_two_cards(said: Any) -> None:
    assert said(Library(12040, TWO)) == [
        ("gpu", "ok", WORKS, ""),
        ("gpu 0", "ok", "NVIDIA H100 80GB HBM3, 80 GiB, compute capability 9.0", ""),
        ("gpu 1", "ok", "NVIDIA T4, 15 GiB, compute capability 7.5", ""),
        ("cublas", "ok", "/lib/cublas.so", ""),
        ("cudnn", "ok", "9.28.0, by its frontend 1.26.0", ""),
        ("nccl", "ok", "/lib/nccl.so", ""),
    ]


def test_libraries_that_are_missing(said: Any) -> None:
    text = "not found: a training takes one of the 2 GPUs"
    slow = "no frontend: convolutions go by cnnforge's own kernels, which are slower"
    assert said(Library(12040, TWO), there=(), packages={})[-3:] == [
        ("cublas", "note", "not found: products are slower", "pip install nvidia-cublas-cu12"),
        ("cudnn", "note", slow, "pip install 'cnnforge[gpu]'"),
        ("nccl", "note", text, "pip install nvidia-nccl-cu12, and mpiexec -n"),
    ]
    assert said(Library(12040, TWO[:1]), there=())[-1] == ("nccl", "ok", "not found; one GPU needs none", "")
    own = said(Library(12040, TWO[:1]), packages={"nvidia-cudnn-frontend": "1.26.0"})
    assert own[-2] == ("cudnn", "ok", "of the system, by its frontend 1.26.0", "")


def test_a_driver_that_is_too_old(said: Any) -> None:
    text = "driver for CUDA 11.4, CuPy 14.2.0 for CUDA 12.9: the driver is too old for it"
    assert said(Library(11040, TWO))[0] == ("gpu", "note", text, "a newer driver, or a CuPy for CUDA 11")


def test_cards_that_are_hidden(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fix = "another CUDA_VISIBLE_DEVICES, or unset it"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert said(Library(12040, ()))[1:] == [("gpus", "note", "CUDA_VISIBLE_DEVICES=7 leaves none", fix)]
    text = "those that CUDA_VISIBLE_DEVICES=7 leaves, numbered from 0"
    assert ("gpus", "ok", text, "") in said(Library(12040, TWO[:1]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    text, fix = "the driver is there, and shows no GPU", "nvidia-smi says what is wrong"
    assert said(Library(12040, ()))[1:] == [("gpus", "note", text, fix)]


def test_without_a_driver_or_without_cupy(said: Any) -> None:
    assert said(None) == [("gpu", "ok", "no NVIDIA driver, CuPy 14.2.0: training runs on the CPU", "")]
    assert said(None, cupy=None) == [("gpu", "ok", "no NVIDIA driver, no CuPy: training runs on the CPU", "")]
    text = "driver for CUDA 12.4, no CuPy"
    assert said(Library(12040, TWO), cupy=None)[0] == ("gpu", "note", text, "pip install 'cnnforge[gpu]'")


def test_a_cupy_that_cannot_be_used(said: Any) -> None:
    def broken() -> int:
        raise ImportError("libcudart.so.12: cannot open shared object file\nmore")

    text = "driver for CUDA 12.4, CuPy 14.2.0, which cannot be used: libcudart.so.12: cannot open shared object file"
    fix = "pip install --force-reinstall 'cnnforge[gpu]'"
    assert said(Library(12040, TWO), built=broken)[0] == ("gpu", "note", text, fix)
