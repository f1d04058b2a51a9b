"""Where compiled kernels are kept: one folder for each state of their source, of the libraries and of the CPU.

Numba keeps what it compiled as pickles and looks only at the file of the kernel itself for changes. So the folder's
name is a hash of every kernel file, and the folder must be the user's own: a stranger's would run a stranger's code.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numba

from cnnforge.folders import user_cache

T = TypeVar("T")


def compiled(make: Callable[[bool], T]) -> T:
    """What ``make(cache)`` compiles, from the cache where it is kept. A damaged cache is thrown away, with one line."""
    kept = folder()
    if kept is None:
        return make(False)
    numba.config.CACHE_DIR = str(kept)
    try:
        return make(True)
    except Exception as error:  # whatever unpickling rubbish may raise
        made = make(False)  # raises where the kernel itself is wrong
        shutil.rmtree(kept, ignore_errors=True)
        text = f"the cache of compiled kernels was damaged ({type(error).__name__}) and is made anew: {kept}"
        print(f"note: {text}", file=sys.stderr)
        return made


def folder() -> Path | None:
    """The folder for kernels as they are now, made with access for the user alone; None where that cannot be."""
    path = user_cache() / f"kernels-{_key()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError:
        return None
    ours = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return path if ours and os.access(path, os.W_OK) else None


@cache
def _key() -> str:
    from llvmlite import binding

    digest = blake2b(digest_size=12)
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    features = binding.get_host_cpu_features().flatten()
    for text in (version("numba"), version("llvmlite"), version("numpy"), binding.get_host_cpu_name(), features):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
