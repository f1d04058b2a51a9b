"""The other shape of blocks: what a CPU of 16 registers of 8 floats runs, on one that has more."""

import os
import subprocess
import sys

import pytest

from cnnforge.backends.numba import cpu

PROGRAM = """
from cnnforge.backends.numba import channel_tiles, tiles
from tests.backends.numba import test_conv, test_linear, test_winograd

assert (tiles.ROWS, tiles.PANELS, channel_tiles.OUTPUTS) == (6, 1, 4)
for op in test_conv.OPS:
    for name in ("strided", "wide", "pointwise", "groups", "depthwise, strided"):
        test_conv.test_convolutions_of_real_sizes(op, name)
    cut = test_winograd.SHAPES["cut tiles, overlapping vectors, flipped"]
    test_winograd.test_it_gives_what_numpy_gives_in_float64(cut, op)
for op in ("matmul", "matmul_dx", "matmul_dw"):
    test_linear.test_products_of_real_sizes(op, (200, 33, 70))
"""

if cpu.WIDE:

    @pytest.mark.slow
    def test_blocks_for_fewer_registers():
        narrow = ",".join(
            f"+{name}" for name in sorted(cpu.features()) if not name.startswith(("avx512", "avx10", "amx"))
        )
        env = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": narrow}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
