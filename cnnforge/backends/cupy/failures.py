"""What is said where a GPU cannot be used, and where one fails at work: every message of this backend."""

from __future__ import annotations

from cnnforge.backends.cupy.driver import release
from cnnforge.errors import BackendError

GRAPHS = "CNNFORGE_CUDA_GRAPHS"
FIX = "trainer.backend=auto; cnnforge doctor says what this machine has"

#: Beginnings of what CUDA's runtime, its driver and cuBLAS say where memory is short.
_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "cuBLAS: 3 ")
#: The same, runtime and driver, where the card or its driver is to blame and no kernel.
_CARD = (
    "cudaErrorECCUncorrectable", "CUDA_ERROR_ECC_UNCORRECTABLE", "cudaErrorNvlinkUncorrectable",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE", "cudaErrorContained", "CUDA_ERROR_CONTAINED", "cudaErrorHardwareStackError",
    "CUDA_ERROR_HARDWARE_STACK_ERROR", "cudaErrorDevicesUnavailable", "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "cudaErrorNoDevice", "CUDA_ERROR_NO_DEVICE", "cudaErrorInvalidDevice", "CUDA_ERROR_INVALID_DEVICE",
    "cudaErrorSystemNotReady", "CUDA_ERROR_SYSTEM_NOT_READY", "cudaErrorSystemDriverMismatch",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "cudaErrorDeviceUninitialized", "CUDA_ERROR_DEINITIALIZED",
    "cudaErrorMpsConnectionFailed", "CUDA_ERROR_MPS_CONNECTION_FAILED", "cudaErrorUnknown", "CUDA_ERROR_UNKNOWN",
)  # fmt: skip


class LibraryError(RuntimeError):
    """cuBLAS or NCCL refuses or fails: ``cuBLAS: 13 (execution failed)``."""


def unavailable(why: str, fix: str) -> BackendError:
    """The error of a machine that cannot run this backend."""
    return BackendError("backend cupy is not available", where="trainer.backend", why=why, fix=f"{fix}, or {FIX}")


def no_device(driver: int, runtime: int, visible: str | None) -> BackendError:
    """Why CUDA gives no device.  driver, runtime: CUDA versions, 0 without a driver;  visible: CUDA_VISIBLE_DEVICES"""
    if not driver:
        return unavailable("there is no NVIDIA driver", "install it, on a machine with an NVIDIA GPU")
    if driver // 1000 < runtime // 1000:
        why = f"the NVIDIA driver is too old: it knows CUDA {release(driver)}, CuPy needs {release(runtime)}"
        return unavailable(why, f"a newer driver, or a CuPy for CUDA {driver // 1000}")
    if visible is not None:
        why = f"there is no such device: CUDA_VISIBLE_DEVICES={visible} leaves none"
        return unavailable(why, "another CUDA_VISIBLE_DEVICES")
    return unavailable("there is no NVIDIA GPU", "another machine")


def no_such_device(number: int, count: int, visible: str | None) -> BackendError:
    """Of ``count`` devices, which are some, none has this number.  visible: CUDA_VISIBLE_DEVICES"""
    numbers = [str(one) for one in range(count)]
    there = f"there are {count}, {', '.join(numbers[:-1])} and {numbers[-1]}" if count > 1 else "there is one, 0"
    hidden = f"; CUDA_VISIBLE_DEVICES={visible} hides others, and numbers those that it names from 0"
    return BackendError(
        f"there is no GPU {number}",
        where="trainer.device",
        why=there + (hidden if visible is not None else ""),
        fix=f"trainer.device={'|'.join(numbers)}, or leave it out; cnnforge doctor lists them",
    )


def crowded(ranks: tuple[int, int], card: str, number: int, count: int, processes: int) -> BackendError:
    """Two ranks have the same GPU, ``number`` of the ``count`` that a host of so many ``processes`` shows."""
    return BackendError(
        "there are more processes than GPUs",
        where="mpiexec",
        why=f"processes {ranks[0]} and {ranks[1]} would share {card} (device {number}): their host shows "
        f"{'one GPU' if count == 1 else f'{count} GPUs'} to {processes} processes, and each needs one of its own",
        fix=f"mpiexec -n {count} on that host, or trainer.backend=auto; CUDA_VISIBLE_DEVICES may hide some",
    )


def no_nccl() -> BackendError:
    """Several processes, and nothing to add their gradients up with."""
    return BackendError(
        "NCCL is not found",
        where="trainer.backend",
        why="several processes that train on GPUs add their gradients up through it",
        fix="pip install nvidia-nccl-cu12 (of another CUDA, its own), or one process",
    )


def out_of_memory(card: str, wanted: int, free: int) -> BackendError:
    """The error of a plan that does not fit.  wanted, free: bytes"""
    return BackendError(
        "out of GPU memory",
        where="trainer.batch_size",
        why=f"{wanted / 2**20:,.0f} MiB are wanted, {free / 2**20:,.0f} MiB of {card} are free",
        fix="a smaller batch; cnnforge check says what a batch takes",
    )


def failed(where: str, error: BaseException) -> BackendError:
    """What CuPy, CUDA, cuBLAS or NCCL says instead of doing what it was asked for.  where: the card's name

    One error at work is all there is: CUDA gives the same answer to whatever the process asks afterwards.
    """
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or why.startswith(_MEMORY):
        what = "out of GPU memory"
        fix = "a smaller trainer.batch_size, or nobody else on the card: nvidia-smi says who is there"
    elif kind in ("CompileException", "NVRTCError"):
        what = "a kernel cannot be compiled for the GPU"
        fix = "pip install --force-reinstall 'cnnforge[gpu]'; where that does not help, it is a bug: please report it"
    elif why.startswith("NCCL"):
        what = "the GPUs of several processes cannot talk to each other"
        fix = "NCCL_DEBUG=INFO says more"
    elif why.startswith(_CARD):
        what = "the GPU does not work any more"
        fix = "nvidia-smi and the system's log (Xid) say more; another card, or this one after a reset"
    else:
        what = "the GPU stopped in the middle of its work"
        fix = f"{GRAPHS}=0 compute-sanitizer cnnforge … names the kernel, if one is at fault: please report it"
    return BackendError(what, where=where, why=why, fix=fix)
