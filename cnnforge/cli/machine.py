"""What ``cnnforge doctor`` looks at of the machine and of what is installed on it. Each check says what it found."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final, Literal

State = Literal["ok", "note", "problem"]
OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"

#: Python releases that the tests run on.
TESTED = ((3, 11),)
#: What the extras of pyproject.toml bring, and what it is for.
EXTRAS = {
    "mpi": (("mpi4py",), "one training on many processes"),
    "ray": (("ray",), "sweeps on a cluster"),
    "postgres": (("psycopg",), "a sweep's storage in PostgreSQL"),
    "onnx": (("onnx", "onnxruntime"), "ONNX"),
}
#: Where Linux says what a container may use: processor time as ``quota period``, and bytes; the older layout after it.
_CPU_LIMITS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Bytes free below which a disk is a problem, and below which it is worth a word.
LITTLE, SCARCE = 200 << 20, 2 << 30


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what it says, and what mends it where something is wrong."""

    name: str
    state: State
    text: str
    fix: str = ""


def python() -> Iterator[Finding]:
    """The interpreter and this package."""
    release = sys.version_info[:2]
    where = "in an environment of its own" if sys.prefix != sys.base_prefix else "the system's own"
    tested = "" if release in TESTED else f"; tested on {', '.join('.'.join(map(str, one)) for one in TESTED)}"
    yield Finding("python", OK, f"{platform.python_version()}, {where}: {sys.executable}{tested}")
    import cnnforge

    folder = Path(cnnforge.__file__).parent
    kind = "a checkout" if (folder.parent / "pyproject.toml").is_file() else "installed"
    yield Finding("cnnforge", OK, f"{version('cnnforge')}, {kind}: {folder}")


def packages() -> Iterator[Finding]:
    """What cnnforge stands on: is it there, and in a release that was meant?"""
    from packaging.requirements import Requirement

    found, wrong = [], []
    for line in requires("cnnforge") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(have, prereleases=True):
            wrong.append(f"{wanted.name} {have} is not {wanted.specifier}")
        found.append(f"{wanted.name} {have}")
    if wrong:
        fix = "pip install --upgrade cnnforge; in a checkout make .venv/.installed"
        yield Finding("packages", PROBLEM, "; ".join(wrong), fix)
    yield Finding("packages", OK, ", ".join(found))


def cpu() -> Iterator[Finding]:
    """The processor, its vector instructions, and how much of it this process may use."""
    from cnnforge.backends.numba import cpu as compiled_for
    from cnnforge.measurements import cpu as model

    has = compiled_for.features()
    best = next((text for name, text in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON"), ("avx", "AVX"))
                 if name in has), "")  # fmt: skip
    text = f"{model()}, {best or 'no vector instructions known'}"
    if platform.machine().lower() in ("x86_64", "amd64") and "avx2" not in has:
        yield Finding("cpu", NOTE, text, "kernels are slow without AVX2: another machine, or NUMBA_CPU_NAME unset")
    else:
        yield Finding("cpu", OK, text)
    cores, allowed, limit = os.cpu_count() or 1, _allowed(), container_cpus()
    text = f"{cores}" + (f", {allowed} of them for this process" if allowed != cores else "")
    if limit is not None and limit < allowed:
        threads = max(1, int(limit))
        fix = f"trainer.threads={threads}: more threads than that wait for each other"
        yield Finding("cores", NOTE, f"{text}; the container has the time of {limit:g}", fix)
    elif allowed < cores:
        yield Finding("cores", NOTE, text, f"trainer.threads={allowed} where a run does not find out by itself")
    else:
        yield Finding("cores", OK, text)


def memory() -> Iterator[Finding]:
    """How much there is, and how much of it a container has."""
    from cnnforge.report.table import bytes_text

    total = _total_memory()
    if total is None:
        yield Finding("memory", NOTE, "the system does not say how much there is")
        return
    limit = container_memory()
    text = bytes_text(total) + (f"; the container may use {bytes_text(limit)}" if limit and limit < total else "")
    yield Finding("memory", OK, text)


def blas() -> Iterator[Finding]:
    """The matrix libraries that NumPy and SciPy bring, and their threads."""
    import numpy as np
    import scipy.linalg
    from threadpoolctl import threadpool_info

    assert scipy.linalg is not None, "it loads a library of its own"
    build: Any = np.show_config(mode="dicts")
    names = build.get("Build Dependencies", {}).get("blas", {}) if isinstance(build, dict) else {}
    pools = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    text = ", ".join(
        f"{pool.get('internal_api')} {pool.get('version') or ''} ({pool.get('architecture') or 'any CPU'}, "
        f"{pool.get('num_threads')} threads)" for pool in pools
    ) or f"{names.get('name', 'unknown')} {names.get('version', '')}".strip()  # fmt: skip
    most = max((int(pool.get("num_threads") or 1) for pool in pools), default=1)
    if most > _allowed():
        variable = next((name for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ), "")
        fix = f"{variable or 'OPENBLAS_NUM_THREADS'}={_allowed()}"
        yield Finding("blas", NOTE, f"{text}: more threads than cores", fix)
    else:
        yield Finding("blas", OK, text)


def numba() -> Iterator[Finding]:
    """The compiled backend, and the folder that keeps its kernels."""
    from cnnforge.folders import user_cache
    from cnnforge.report.table import bytes_text

    try:
        from cnnforge.backends.numba import cpu as compiled_for

        name, _ = compiled_for.target()
        yield Finding("numba", OK, f"{version('numba')} with llvmlite {version('llvmlite')}, compiles for {name}")
    except Exception as error:  # a library that does not load says so in many ways
        text = f"cannot be used: {type(error).__name__}: {one_line(error)}"
        yield Finding("numba", PROBLEM, text, "pip install --force-reinstall numba llvmlite, or trainer.backend=numpy")
    folder = user_cache() / "kernels"
    if not folder.is_dir():
        yield Finding("kernels", OK, f"none compiled yet; the first run makes {folder}")
        return
    status = folder.stat()
    files = [file.stat().st_size for file in folder.glob("*.o")]
    text = f"{len(files)} compiled, {bytes_text(sum(files))} in {folder}"
    again = "so every run compiles anew"
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        yield Finding("kernels", PROBLEM, f"{text}: it belongs to someone else, {again}", "another XDG_CACHE_HOME")
    elif os.name == "posix" and status.st_mode & 0o022:
        yield Finding("kernels", PROBLEM, f"{text}: others may write to it, {again}", f"chmod 700 {folder}")
    elif not os.access(folder, os.W_OK):
        yield Finding("kernels", NOTE, f"{text}: it cannot be written, new kernels are not kept", f"chmod u+w {folder}")
    else:
        yield Finding("kernels", OK, text)


def gpu() -> Iterator[Finding]:
    """A GPU's driver, CuPy, and cuDNN."""
    driver, cupy = _cuda(), _installed("cupy") or _installed("cupy-cuda12x") or _installed("cupy-cuda13x")
    cudnn = _installed("nvidia-cudnn-cu12") or _installed("nvidia-cudnn-cu13") or "of the system"
    frontend = _installed("nvidia-cudnn-frontend")
    have = f"CuPy {cupy}" if cupy else "no CuPy"
    if cupy:
        have += f", cuDNN {cudnn} by its frontend {frontend}" if frontend else ", no cuDNN frontend"
    if driver is None:
        yield Finding("gpu", OK, f"no NVIDIA driver, {have}: training runs on the CPU")
    elif not cupy:
        yield Finding("gpu", NOTE, f"{driver}, {have}", "pip install 'cnnforge[gpu]'")
    else:
        if not frontend:
            slow = "convolutions go by cnnforge's own kernels, which are slower"
            yield Finding("cudnn", NOTE, slow, "pip install 'cnnforge[gpu]'")
        yield Finding("gpu", OK, f"{driver}, {have}: trainer.backend=cupy trains there, auto on the CPU")


def extras() -> Iterator[Finding]:
    """Packages that some commands need."""
    for extra, (names, purpose) in EXTRAS.items():
        have = [f"{name} {_installed(name) or ''}".strip() for name in names if _there(name)]
        missing = [name for name in names if not _there(name)]
        text = f"{purpose}: " + ", ".join(have or ["not installed"])
        how = f" (pip install 'cnnforge[{extra}]')" if missing else ""
        if extra == "mpi" and have:
            launcher = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
            state: State = OK if launcher else NOTE
            yield Finding(extra, state, f"{text}, {launcher or 'no mpiexec'}", "" if launcher else "pip install mpich")
        else:
            yield Finding(extra, OK, text + how)


def disk(*folders: Path) -> Iterator[Finding]:
    """Room where runs, caches and temporary files go."""
    from cnnforge.report.table import bytes_text

    seen: set[int] = set()
    for folder in folders:
        there = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path("/"))
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(there).free
        state: State = PROBLEM if free < LITTLE else NOTE if free < SCARCE else OK
        fix = "" if state == OK else "make room: cnnforge runs delete; trainer.keep=1 keeps fewer checkpoints"
        yield Finding("disk", state, f"{bytes_text(free)} free for {folder}", fix)


# ---- what the system says ----------------------------------------------------------------------------------------


def container_cpus() -> float | None:
    """Processors whose time a container has; None where there is no limit."""
    text = _first(_CPU_LIMITS)
    parts = text.split()
    if len(parts) == 1 and parts[0].lstrip("-").isdecimal():
        parts.append(_first(("/sys/fs/cgroup/cpu/cpu.cfs_period_us",)) or "100000")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not int(parts[1]):
        return None
    return int(parts[0]) / int(parts[1])


def container_memory() -> int | None:
    """Bytes that a container may use; None where there is no limit."""
    text = _first(_MEMORY_LIMITS)
    return int(text) if text.isdecimal() and int(text) < 1 << 60 else None


def _first(paths: tuple[str, ...]) -> str:
    for path in paths:
        try:
            return Path(path).read_text().strip()
        except OSError:
            continue
    return ""


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _cuda() -> str | None:
    """What the NVIDIA driver says of itself and of its first device; None where there is none."""
    import ctypes

    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            cuda: Any = ctypes.CDLL(library)
        except OSError:
            continue
        release, count, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
        cuda.cuDriverGetVersion(ctypes.byref(release))
        text = f"driver for CUDA {release.value // 1000}.{release.value % 1000 // 10}"
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return f"{text}, no device"
        device = ctypes.c_int()
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        cuda.cuDeviceGetName(name, 100, device)
        others = f" and {count.value - 1} more" if count.value > 1 else ""
        return f"{name.value.decode(errors='replace')}{others}, {text}"
    return None


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def one_line(error: BaseException) -> str:
    """An error as part of a line."""
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
