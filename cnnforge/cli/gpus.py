"""What ``cnnforge doctor`` says of GPUs. The driver is asked itself, so that CuPy is loaded only where there is one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cnnforge.backends.cupy.driver import Driver, driver, release
from cnnforge.cli.finding import NOTE, OK, Finding

#: Packages that bring CuPy.
_CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")


def gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Iterator[Finding]:
    """The driver, CuPy, every GPU, and the libraries beside them.  load: opens a library"""
    there, cupy = driver(load), next((found for name in _CUPY if (found := _installed(name))), None)
    if there is None:
        have = f"CuPy {cupy}" if cupy else "no CuPy"
        yield Finding("gpu", OK, f"no NVIDIA driver, {have}: training runs on the CPU")
        return
    text = f"driver for CUDA {release(there.release)}"
    if cupy is None:
        yield Finding("gpu", NOTE, f"{text}, no CuPy", "pip install 'cnnforge[gpu]'")
    else:
        yield _cupy(text, cupy, there)
    yield from _cards(there)
    if cupy is not None and there.cards:
        yield from _libraries(len(there.cards))


def _cupy(text: str, cupy: str, there: Driver) -> Finding:
    try:
        from cnnforge.backends.cupy.cuda import built_for

        built = built_for()
    except Exception as error:  # a library that does not load says so in many ways
        fix = "pip install --force-reinstall 'cnnforge[gpu]'"
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding("gpu", NOTE, f"{text}, CuPy {cupy}, which cannot be used: {why}", fix)
    text += f", CuPy {cupy} for CUDA {release(built)}"
    if there.release // 1000 < built // 1000:
        fix = f"a newer driver, or a CuPy for CUDA {there.release // 1000}"
        return Finding("gpu", NOTE, f"{text}: the driver is too old for it", fix)
    if not there.cards:
        return Finding("gpu", OK, f"{text}: training runs on the CPU")
    return Finding("gpu", OK, f"{text}: trainer.backend=cupy trains there, auto on the CPU")


def _cards(there: Driver) -> Iterator[Finding]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    for card in there.cards:
        major, minor = card.capability
        text = f"{card.name}, {card.memory / 2**30:.0f} GiB, compute capability {major}.{minor}"
        yield Finding(f"gpu {card.number}", OK, text)
    if not there.cards and visible is not None:
        fix = "another CUDA_VISIBLE_DEVICES, or unset it"
        yield Finding("gpus", NOTE, f"CUDA_VISIBLE_DEVICES={visible} leaves none", fix)
    elif not there.cards:
        yield Finding("gpus", NOTE, "the driver is there, and shows no GPU", "nvidia-smi says what is wrong")
    elif visible is not None:
        yield Finding("gpus", OK, f"those that CUDA_VISIBLE_DEVICES={visible} leaves, numbered from 0")


def _libraries(cards: int) -> Iterator[Finding]:
    from cnnforge.backends.cupy.libraries import found

    blas, nccl = found("cublas"), found("nccl")
    if blas is None:
        yield Finding("cublas", NOTE, "not found: products are slower", "pip install nvidia-cublas-cu12")
    else:
        yield Finding("cublas", OK, blas)
    yield _cudnn()
    if nccl is not None:
        yield Finding("nccl", OK, nccl)
    elif cards > 1:
        text = f"not found: a training takes one of the {cards} GPUs"
        yield Finding("nccl", NOTE, text, "pip install nvidia-nccl-cu12, and mpiexec -n")
    else:
        yield Finding("nccl", OK, "not found; one GPU needs none")


def _cudnn() -> Finding:
    frontend = _installed("nvidia-cudnn-frontend")
    if frontend is None:
        slow = "no frontend: convolutions go by cnnforge's own kernels, which are slower"
        return Finding("cudnn", NOTE, slow, "pip install 'cnnforge[gpu]'")
    cudnn = _installed("nvidia-cudnn-cu12") or _installed("nvidia-cudnn-cu13") or "of the system"
    return Finding("cudnn", OK, f"{cudnn}, by its frontend {frontend}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
