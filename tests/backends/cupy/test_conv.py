"""Convolutions and products that take more than one tile, one part, one step of the depth."""

import numpy as np
import pytest

from cnnforge.backends.cupy import conv
from cnnforge.backends.cupy.capabilities import CAPABILITIES
from cnnforge.ir.graph import Value
from cnnforge.shapes import window
from tests import one_node
from tests.conformance.cases import Case
from tests.conformance.halves import HALVES, assert_near
from tests.devices import EMULATED

rng = np.random.default_rng(0)


def integers(*shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def same_as_numpy(op, ins, shape, attrs, dtype="float32"):
    if dtype in HALVES:
        assert_near(op, Case(ins, [(shape, "float32")], [], attrs, exact=True), dtype, EMULATED)
        return
    found, expected = (one_node.run(op, ins, [(shape, "float32")], attrs, b)[0] for b in (EMULATED, "numpy"))
    np.testing.assert_array_equal(found, expected)


DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16", pytest.param("float16", marks=pytest.mark.slow)])


@DTYPES
@pytest.mark.parametrize(("rows", "depth", "columns"), [(64, 16, 64), (65, 17, 66), (130, 33, 1), (1, 70, 129)])
def test_products_of_several_tiles(rows, depth, columns, dtype):
    x, w, dy = integers(rows, depth), integers(depth, columns), integers(rows, columns)
    same_as_numpy("matmul", [x, w], (rows, columns), {}, dtype)
    same_as_numpy("matmul_dx", [dy, w], x.shape, {}, dtype)
    same_as_numpy("matmul_dw", [x, dy], w.shape, {}, dtype)


#: Input, filters, groups; kernel, stride, padding, dilation.
LARGE = {
    "3x3 same": ((3, 14, 13, 20), 70, 1, ((3, 3), (1, 1), "same")),
    "strided, in groups": ((3, 15, 16, 24), 66, 2, ((3, 5), (2, 3), (1, 2, 0, 1))),
    "dilated": ((2, 19, 18, 5), 3, 1, ((3, 2), (1, 2), 2, (3, 2))),
    "1x1": ((2, 9, 8, 20), 70, 1, ((1, 1), (1, 1), "valid")),
    "1x1 in groups": ((2, 9, 8, 20), 40, 4, ((1, 1), (1, 1), "valid")),
    "depthwise": ((4, 14, 13, 40), 40, 40, ((3, 3), (1, 1), "same")),
    "depthwise, doubled": ((5, 21, 20, 17), 34, 17, ((5, 3), (2, 1), 1, (1, 2))),
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", LARGE)
def test_convolutions_of_several_tiles(name, dtype):
    shape, filters, groups, asked = LARGE[name]
    flip = list(LARGE).index(name) % 2 == 1
    win = window(shape[1:3], *asked)
    x, w = integers(*shape), integers(*win.kernel, shape[3] // groups, filters)
    dy = integers(shape[0], *win.out, filters)
    attrs = {"window": win, "groups": groups, "flip": flip}
    same_as_numpy("conv2d", [x, w], dy.shape, attrs, dtype)
    same_as_numpy("conv2d_dx", [dy, w], x.shape, attrs, dtype)
    same_as_numpy("conv2d_dw", [x, dy], w.shape, attrs, dtype)


def test_gradients_of_weights_are_summed_in_parts_that_keep_a_card_busy():
    def parts(w, positions, groups):
        win = window((positions, 1), (w[0], w[1]), (1, 1), "same")
        x, dy = ((1, positions, 1, groups * w[2]), (1, positions, 1, w[3]))
        values = [Value(0, "", shape, "act", "float32", True) for shape in (x, dy, w)]
        attrs = {"window": win, "groups": groups, "flip": False}
        return CAPABILITIES.scratch("conv2d_dw", tuple(values[:2]), (values[2],), attrs)[0].shape[0]

    assert parts((3, 3, 16, 64), 100, 1) == 1, "few positions are one part"
    assert parts((3, 3, 16, 64), 1 << 20, 1) == conv.BUSY // 3, "three blocks of 64 rows each"
    assert parts((3, 3, 512, 512), 1 << 20, 1) == 1, "large weights are enough blocks by themselves"
    assert parts((3, 3, 1, 64), 1 << 20, 64) == conv.BUSY // 18, "nine positions, two times 32 filters"


def test_a_smaller_batch_than_planned_leaves_parts_empty():
    """Workspace is of the planned batch: with fewer samples, the last parts may hold none."""
    x, dy = integers(1, 8, 8, 4), integers(1, 8, 8, 6)
    win = window((8, 8), (3, 3), (1, 1), "same")
    attrs = {"window": win, "groups": 1, "flip": False}
    (expected,) = one_node.run("conv2d_dw", [x, dy], [((3, 3, 4, 6), "float32")], attrs)
    device = one_node._device(EMULATED)
    parts = np.full((40, 3, 3, 4, 6), np.nan, np.float32)
    dw = np.empty((3, 3, 4, 6), np.float32)
    device.run([device.kernel("conv2d_dw")((x, dy), (dw,), (parts,), **attrs)])
    np.testing.assert_array_equal(dw, expected)
