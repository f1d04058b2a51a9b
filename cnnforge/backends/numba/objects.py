"""Object code of kernels in this process: LLVM's own loader puts it into memory and gives its address."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

from llvmlite import binding

from cnnforge.backends.numba import cpu

_numbers = itertools.count()


def target_machine() -> binding.TargetMachine:
    """What compiles for the CPU, placed as code that is loaded at run time has to be (as Numba places its own)."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    name, features = cpu.target()
    place = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc=place, codemodel="jitdefault", jit=True
    )  # fmt: skip


@cache
def _loader() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.create_lljit_compiler(target_machine(), suppress_errors=True)


def loaded(code: bytes, name: str) -> int:
    """The address of ``name`` in the object file ``code``. Raises RuntimeError where it needs what this process lacks.

    It stays until the process ends: threads may still be in it, so nothing is given back, at exit neither.
    """
    library = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
    kept = library.link(_loader(), f"{name}/{next(_numbers)}")
    address = int(kept[name])
    kept.detach()
    return address
