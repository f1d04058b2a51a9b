"""Where NVIDIA's libraries are: they come with CUDA, or as packages (nvidia-cublas-cu12, nvidia-nccl-cu12)."""

from __future__ import annotations


def found(name: str) -> str | None:
    """The file of ``cublas``, ``nccl`` …; None where there is none that can be loaded."""
    try:
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    except ImportError:  # it comes with CuPy
        return None
    try:
        path = load_nvidia_dynamic_lib(name).abs_path
    except (DynamicLibNotFoundError, OSError):  # the second: there, and broken
        return None
    return None if path is None else str(path)
