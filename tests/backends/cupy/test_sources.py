"""All CUDA sources compile with NVIDIA's own compilers, where there is one."""

import shutil
import subprocess

import pytest

from cnnforge.backends.cupy import signature
from cnnforge.backends.cupy.activation import FUNCTIONS, SLOPES, tail

#: Every element-wise function, one after another.
EVERYTHING = tuple(
    function
    for op in (*FUNCTIONS, *SLOPES)
    for form in ("none", "tanh")
    for function in tail(op, (), {"alpha": 0.5, "approximate": form}).functions
)
#: Whose kernels may end with others' work.
ENDING = [s for s in signature.sources() if "AND_TAIL" in (signature.FOLDER / f"{s}.cuh").read_text()]
nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")


def nvrtc():
    """The compiler that CuPy calls on a GPU's machine; it needs no GPU."""
    compiler = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        compiler.getVersion()
    except Exception as error:  # CuPy is there, and the library is not
        pytest.skip(f"NVRTC cannot be loaded: {type(error).__name__}")
    return compiler


#: What is done to gradients, parameters or pictures alone: they are never of a half type.
OF_PARAMETERS = frozenset({"guard", "optimizer", "pictures", "tensorwise"})


def compiled(dtype, *marks):
    """Every file of kernels that there is for a dtype."""
    sources = (s for s in signature.sources() if dtype not in signature.HALVES or s not in OF_PARAMETERS)
    return [pytest.param(source, dtype, marks=marks) for source in sources]


def ptx_of(source, dtype, functions=()):
    """What NVIDIA's compiler makes of a file's kernels, which end with ``functions``, without a warning."""
    compiler = nvrtc()
    program = compiler.createProgram(signature.text(source, dtype, functions), f"{source}.cu", (), ())
    try:
        compiler.compileProgram(program, ("-std=c++17", "-arch=compute_75"))
    except compiler.NVRTCError:
        pytest.fail(compiler.getProgramLog(program))
    assert not compiler.getProgramLog(program).strip(), "not even a warning"
    ptx = compiler.getPTX(program)
    return ptx if isinstance(ptx, str) else ptx.decode()


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        *compiled("float32"),
        *(one for dtype in signature.REAL if dtype != "float32" for one in compiled(dtype, pytest.mark.slow)),
    ],
)
def test_nvrtc_compiles(source, dtype):
    ptx = ptx_of(source, dtype)
    for name in signature.kernels(source):
        assert f".entry {name}(" in ptx
    if dtype != "float64":
        assert ".f64" not in ptx or source in WIDE, "a number was meant to be P(…)"


@pytest.mark.parametrize("source", ["activation", *(pytest.param(s, marks=pytest.mark.slow) for s in ENDING)])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_nvrtc_compiles_kernels_that_end_with_every_function(source, dtype):
    ptx = ptx_of(source, dtype, EVERYTHING)
    for name in signature.kernels(source):
        assert f".entry {name}(" in ptx
    assert ".f64" not in ptx or source in WIDE, "a number was meant to be P(…)"


#: Where numbers of the step block, or sums, are of double precision in any case.
WIDE = frozenset(
    {"dropout", "guard", "loss", "optimizer", "tensorwise", "targets", "norm", "step", "pictures", "tally"}
)


@pytest.mark.slow
@nvcc
@pytest.mark.parametrize(("source", "dtype"), [one for dtype in signature.REAL for one in compiled(dtype)])
def test_nvcc_compiles(source, dtype, tmp_path):
    file = tmp_path / "kernels.cu"
    file.write_text(signature.text(source, dtype))
    command = ["nvcc", "-cubin", "-arch=sm_90", "-std=c++17", "-Werror", "all-warnings", "-o", "/dev/null", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
