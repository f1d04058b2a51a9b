"""The real cuDNN and its frontend plan every convolution of a few nets, for cards that are not there."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="nvidia-cudnn-frontend is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to make an empty driver"),
]

#: What cuDNN looks up in the driver when it is loaded.
DRIVER = (
    "cuCtxGetCurrent cuCtxGetLimit cuCtxPopCurrent cuCtxPushCurrent cuDeviceGet cuDeviceGetCount cuDriverGetVersion "
    "cuGetErrorName cuGetErrorString cuInit cuKernelGetAttribute cuKernelGetFunction cuKernelSetAttribute "
    "cuLaunchCooperativeKernel cuLaunchKernel cuLaunchKernelEx cuLibraryGetKernel cuLibraryLoadData "
    "cuLibraryLoadFromFile cuLibraryUnload cuLinkAddData cuLinkComplete cuLinkCreate cuLinkDestroy "
    "cuModuleGetFunction cuModuleLoadData cuModuleUnload cuOccupancyMaxPotentialClusterSize cuStreamGetCtx "
    "cuTensorMapEncodeIm2col cuTensorMapEncodeTiled"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with a driver that does nothing and says that all went well."""
    folder = tmp_path_factory.mktemp("driver")
    source = folder / "driver.c"
    source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in DRIVER.split()))
    command = ["gcc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def planned(driver, *words):
    """[op, x, w, epilogue, plan, workspace, limit] of each convolution."""
    command = [sys.executable, "-m", "tests.backends.cupy.planned", *words]
    path = os.pathsep.join(filter(None, (str(driver), os.environ.get("LD_LIBRARY_PATH"))))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, "LD_LIBRARY_PATH": path}
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("net", "batch"), [("resnet50", "128"), ("resnet20", "128"), ("lenet", "64"), ("mobilenet_v2", "96")]
)
def test_every_convolution_has_a_plan(driver, net, batch, precision):
    found = planned(driver, net, precision, "H100", batch)
    assert Counter(op for op, *_ in found).keys() == {"conv2d", "conv2d_dx", "conv2d_dw"}
    assert all(plan for *_, plan, _, _ in found), [line for line in found if not line[4]]
    assert all(space <= limit for *_, space, limit in found)
    if net == "resnet20":  # its evaluation, with the norms folded into the weights
        fused = {tuple(epilogue) for _, _, _, epilogue, *_ in found} - {()}
        single = precision in ("float32", "tf32")
        assert fused == ({("bias", "relu"), ("add", "bias", "relu")} if single else set()), "a half net's bias is not"


@pytest.mark.parametrize(
    ("card", "precision"), [("A100", "tf32"), ("A100", "bfloat16"), ("T4", "float32"), ("T4", "float16")]
)
def test_on_other_cards(driver, card, precision):
    found = planned(driver, "resnet20", precision, card, "128")
    assert found
    assert all(plan for *_, plan, _, _ in found), [line for line in found if not line[4]]
