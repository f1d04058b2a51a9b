"""All CUDA sources compile with NVIDIA's own compilers, where there is one."""

import shutil
import subprocess

import pytest

from cnnforge.backends.cupy import signature

nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")


def nvrtc():
    """The compiler that CuPy calls on a GPU's machine; it needs no GPU."""
    compiler = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")
    try:
        compiler.getVersion()
    except Exception as error:  # CuPy is there, and the library is not
        pytest.skip(f"NVRTC cannot be loaded: {type(error).__name__}")
    return compiler


#: What is done to parameters alone: they are never of a half type.
OF_PARAMETERS = frozenset({"optimizer", "tensorwise"})


def compiled(dtype, *marks):
    """Every file of kernels that there is for a dtype."""
    sources = (s for s in signature.sources() if dtype not in signature.HALVES or s not in OF_PARAMETERS)
    return [pytest.param(source, dtype, marks=marks) for source in sources]


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        *compiled("float32"),
        *(one for dtype in signature.REAL if dtype != "float32" for one in compiled(dtype, pytest.mark.slow)),
    ],
)
def test_nvrtc_compiles(source, dtype):
    compiler = nvrtc()
    program = compiler.createProgram(signature.text(source, dtype), f"{source}.cu", (), ())
    try:
        compiler.compileProgram(program, ("-std=c++17", "-arch=compute_75"))
    except compiler.NVRTCError:
        pytest.fail(compiler.getProgramLog(program))
    assert not compiler.getProgramLog(program).strip(), "not even a warning"
    ptx = compiler.getPTX(program)
    ptx = ptx if isinstance(ptx, str) else ptx.decode()
    for name in signature.kernels(source):
        assert f".entry {name}(" in ptx
    if dtype != "float64":
        assert ".f64" not in ptx or source in WIDE, "a number was meant to be P(…)"


#: Where numbers of the step block, or sums, are of double precision in any case.
WIDE = frozenset({"dropout", "guard", "loss", "optimizer", "tensorwise", "targets", "norm", "step"})


@pytest.mark.slow
@nvcc
@pytest.mark.parametrize(("source", "dtype"), [one for dtype in signature.REAL for one in compiled(dtype)])
def test_nvcc_compiles(source, dtype, tmp_path):
    file = tmp_path / "kernels.cu"
    file.write_text(signature.text(source, dtype))
    command = ["nvcc", "-cubin", "-arch=sm_90", "-std=c++17", "-Werror", "all-warnings", "-o", "/dev/null", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
