"""Compiling one kernel: Numba turns the Python function into LLVM code, and here that becomes an object file.

Numba's own wrappers would hand errors to Python and count references. Kernels raise nothing and allocate nothing, so
all that is left out: a third of the time goes with it, and what remains needs no symbols but those of the C library's
mathematics. The front end is reached by Numba's internal interface, in ``_lowered`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType

import numba
from llvmlite import binding
from numba import types
from numba.core import compiler, registry
from numba.core.compiler_lock import global_compiler_lock

from cnnforge.backends.numba.language import FAST_MATH, resolved
from cnnforge.backends.numba.objects import target_machine

#: What calls the function as Numba has it, which returns a status.
_ENTRY = """
declare i32 @"{inner}"(ptr, ptr{types})
define void @"{name}"({parameters}) {{
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"{inner}"(ptr %result, ptr %error{arguments})
  ret void
}}
"""


def object_code(function: FunctionType, words: int, name: str) -> bytes:
    """An object file with the one symbol ``name``: a function of so many int64 without a result."""
    with global_compiler_lock, _parts_left_as_they_are():
        module, inner = _lowered(function, words)
        parameters = [f"i64 %{i}" for i in range(words)]
        text = _ENTRY.format(
            inner=inner, name=name, types=", i64" * words, parameters=", ".join(parameters),
            arguments="".join(f", {p}" for p in parameters),
        )  # fmt: skip
        entry = binding.parse_assembly(text)
        entry.data_layout, entry.triple = module.data_layout, module.triple
        module.link_in(entry)
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and value.name != name:
                value.linkage = "internal"
        machine = target_machine()
        _optimise(module, machine)
        code: bytes = machine.emit_object(module)
    return code


@contextmanager
def _parts_left_as_they_are() -> Iterator[None]:
    """Numba optimises every function that it compiles; of parts of kernels it would be done again once they are inside
    the kernel, with the same result. That is a quarter of the time."""
    level = numba.config.OPT
    numba.config.OPT = type(level)(0)
    try:
        yield
    finally:
        numba.config.OPT = level


def _lowered(function: FunctionType, words: int) -> tuple[binding.ModuleRef, str]:
    """LLVM code of ``function`` with all that it calls, and the function's name there."""
    target = registry.cpu_target
    flags = compiler.Flags()
    options = {"nopython": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    target.options.parse_as_flags(flags, options)
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    done = compiler.compile_extra(
        target.typing_context, target.target_context, resolved(function), (types.intp,) * words, types.void, flags, {}
    )  # fmt: skip
    library = done.library
    module = library._final_module.clone()
    for other in dict.fromkeys(library._linking_libraries):
        module.link_in(other._get_module_for_linking(), preserve=True)
    return module, done.fndesc.llvm_func_name


def _optimise(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    """As Numba does it: inline with little else, so that references to nothing are seen as such, then all passes."""
    options = binding.create_pipeline_tuning_options(speed_level=0)
    options.loop_vectorization = options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_jump_threading_pass()
    passes.add_refprune_pass()
    passes.run(module, builder)

    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = bool(numba.config.SLP_VECTORIZE)
    builder = binding.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.add_refprune_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    passes.run(module, builder)
