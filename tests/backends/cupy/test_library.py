"""Convolutions by a library: how it is asked, in what memory, and what is done where it has no plan."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.backends.cupy import capabilities, library
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.convolution import Layout, channels_last, describe
from cnnforge.backends.cupy.device import Instead, Queued, chain
from cnnforge.backends.cupy.library import LIBRARY, MOST, OWN, PLANS
from cnnforge.ir.graph import Value
from cnnforge.shapes import transposed_window, window
from tests import devices, one_node
from tests.backends.cupy.convolved import seen
from tests.backends.cupy.emulator import Emulator
from tests.conformance.cases import CASES
from tests.devices import WITH_LIBRARY

OPS = ("conv2d", "conv2d_dx", "conv2d_dw")
few = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
rng = np.random.default_rng(0)


def integers(*shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def value(shape, dtype="float32", batched=True):
    return Value(0, "", tuple(shape), "act", dtype, batched)


def node(op, x, w, y):
    """(ins, outs) of a convolution or a gradient of it."""
    by = {"conv2d": ((x, w), (y,)), "conv2d_dx": ((y, w), (x,)), "conv2d_dw": ((x, y), (w,))}
    return by[op]


class TestDescription:
    WINDOW = window((9, 8), (3, 2), (2, 1), (1, 0, 2, 1), (2, 1))

    def test_sizes_are_listed_as_cudnn_lists_them_and_lie_as_ours(self):
        x = rng.normal(size=(2, 3, 4, 5))
        layout = channels_last(*x.shape)
        assert layout == Layout((2, 5, 3, 4), (60, 1, 20, 5))
        np.testing.assert_array_equal(seen(x, layout), x.transpose(0, 3, 1, 2))
        assert layout.size == x.size

    def test_a_convolution(self):
        n, (oh, ow) = 2, self.WINDOW.out
        how = describe("conv2d", (n, 9, 8, 6), (3, 2, 3, 4), (n, oh, ow, 4), self.WINDOW, "float32")
        assert how.w == Layout((4, 3, 3, 2), (18, 1, 6, 3)), "filters outermost, in two groups"
        assert (how.before, how.after) == ((1, 2), (0, 1)), "(top, left), (bottom, right)"
        assert (how.stride, how.dilation) == ((2, 1), (2, 1))
        assert [role for role, _ in how.operands] == ["x", "w", "y"]

    def test_operands_by_op(self):
        how = describe("conv2d_dx", (2, 9, 8, 6), (3, 2, 6, 4), (2, 4, 9, 4), self.WINDOW, "float32")
        assert how.operands == (("y", how.y), ("w", how.w), ("x", how.x))
        assert replace(how, op="conv2d_dw").operands == (("x", how.x), ("y", how.y), ("w", how.w))
        whole = replace(how, op="conv2d", epilogue=("add", "bias", "relu"))
        bias = Layout((1, 4, 1, 1), (4, 1, 4, 4))
        assert whole.operands == (("x", how.x), ("w", how.w), ("add", how.y), ("bias", bias), ("y", how.y))

    @pytest.mark.parametrize(("dtype", "asked"), [("float32", True), ("bfloat16", False)])
    def test_tf32_is_float32s(self, dtype, asked):
        assert describe("conv2d", (1, 9, 8, 1), (3, 2, 1, 1), (1, 4, 9, 1), self.WINDOW, dtype, True).tf32 is asked


class TestWays:
    def ways(
        self, op="conv2d", dtype="float32", kernel=(3, 3), stride=(1, 1), groups=1, able=capabilities.WITH_LIBRARY
    ):
        win = window((8, 8), kernel, stride, "same")
        x, w, y = (2, 8, 8, 4), (*kernel, 4 // groups, 4), (2, *win.out, 4)
        ins, outs = node(op, *(value(shape, dtype) for shape in (x, w, y)))
        return able.ways(op, ins, outs, {"window": win, "groups": groups, "flip": False})

    @pytest.mark.parametrize("op", OPS)
    def test_the_library_is_guessed_first(self, op):
        assert self.ways(op) == (*LIBRARY, OWN)
        assert LIBRARY[:2] == ("cudnn", "cudnn 2")
        assert self.ways(op, groups=2) == (*LIBRARY, OWN)

    def test_one_channel_for_each_filter_is_ours_first(self):
        assert self.ways(groups=4) == (OWN, *LIBRARY)

    def test_what_has_one_way_names_none(self):
        assert self.ways(kernel=(1, 1)) == (), "a matrix product"
        assert self.ways(kernel=(1, 1), stride=(2, 2)) != ()
        assert self.ways(dtype="float64") == ()
        assert self.ways(able=capabilities.CAPABILITIES) == ()

    def test_a_chain_goes_the_ways_of_its_first_part(self):
        win = window((8, 8), (3, 3), (1, 1), "same")
        attrs = {"window": win, "groups": 1, "flip": False}
        ins, outs = node("conv2d", *(value(s) for s in ((2, 8, 8, 4), (3, 3, 4, 4), (2, 8, 8, 4))))
        parts = {"parts": (("conv2d", 2, attrs), ("bias", 1, {}))}
        can = capabilities.WITH_LIBRARY
        assert can.ways("conv2d+bias", (*ins, value((4,))), outs, parts) == (*LIBRARY, OWN)
        assert can.scratch("conv2d+bias", (*ins, value((4,))), outs, {**parts, "way": "cudnn"}) == can.scratch(
            "conv2d", ins, outs, {**attrs, "way": "cudnn"}
        )
        assert can.scratch("conv2d+bias", (*ins, value((4,))), outs, {**parts, "way": OWN}) == ()
        assert can.ways("matmul+bias", ins, outs, {"parts": (("matmul", 2, {}), ("bias", 1, {}))}) == ()

    def test_it_is_there_where_its_frontend_is_installed(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "cudnn" else None)
        assert capabilities.capabilities() is capabilities.WITH_LIBRARY
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert capabilities.capabilities() is capabilities.CAPABILITIES


class TestWorkspace:
    def scratch(self, op, n=2, way="cudnn", channels=4):
        win = window((64, 64), (3, 3), (1, 1), "same")
        x, w, y = value((n, 64, 64, channels)), value((3, 3, channels, 8)), value((n, 64, 64, 8))
        attrs = {"window": win, "groups": 1, "flip": False, "way": way}
        return capabilities.WITH_LIBRARY.scratch(op, *node(op, x, w, y), attrs)

    @pytest.mark.parametrize("op", OPS)
    def test_turned_weights_and_bytes(self, op):
        turned, space = self.scratch(op)
        assert (turned.shape, turned.dtype, turned.batched) == ((3, 3, 4, 8), "float32", False)
        pixels = 2 * 64 * 64
        assert (space.dtype, space.batched) == ("uint8", False)
        assert space.shape == (4 * (pixels * 4 + pixels * 8 + 2 * 9 * 4 * 8) + (4 << 20),)

    def test_there_is_a_limit(self):
        assert self.scratch("conv2d", n=4096)[1].shape == (MOST,)

    def test_kernels_of_our_own_take_what_they_took(self):
        assert self.scratch("conv2d", way=OWN) == ()
        assert [s.dtype for s in self.scratch("conv2d_dw", way=OWN)] == ["float32"]

    def test_it_is_enough_for_them_where_a_plan_is_missing(self, monkeypatch):
        monkeypatch.setattr(library, "MOST", 1 << 10)
        (parts,) = self.scratch("conv2d_dw", way=OWN, channels=96)
        assert np.prod(parts.shape) * 4 > 1 << 10
        assert self.scratch("conv2d_dw", channels=96)[1].shape[0] >= np.prod(parts.shape) * 4


@pytest.mark.parametrize("way", [*LIBRARY, OWN])
@pytest.mark.parametrize("op", OPS)
@few
@given(data=st.data())
def test_every_way_gives_what_loops_give(op, way, data):
    """Any stride, dilation, padding, groups; flipped or not; the last way has no plan and goes by our kernels."""
    case = data.draw(CASES[op]("float32"))
    ways = capabilities.WITH_LIBRARY.ways(
        op, tuple(value(a.shape) for a in case.ins), tuple(value(*out) for out in case.outs), case.attrs
    )
    found = one_node.run(op, case.ins, case.outs, case.attrs, WITH_LIBRARY, way=way if ways else "")
    for got, expected in zip(found, case.expected, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * case.scale)


#: Input, filters, groups; kernel, stride, padding, dilation: weights of more than one square, and of none that is full.
LARGE = {
    "several squares": ((2, 6, 5, 40), 70, 1, ((3, 3), (1, 1), "same")),
    "strided, in groups": ((2, 9, 8, 24), 66, 2, ((3, 5), (2, 3), (1, 2, 0, 1))),
    "dilated": ((2, 19, 18, 5), 3, 1, ((3, 2), (1, 2), 2, (3, 2))),
    "1x1 strided": ((2, 9, 8, 20), 70, 1, ((1, 1), (2, 2), "valid")),
    "depthwise": ((2, 7, 6, 40), 80, 40, ((3, 3), (1, 1), "same")),
}  # fmt: skip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_weights_are_turned_whole(name, flip):
    shape, filters, groups, asked = LARGE[name]
    win = window(shape[1:3], *asked)
    x, w = integers(*shape), integers(*win.kernel, shape[3] // groups, filters)
    dy = integers(shape[0], *win.out, filters)
    attrs = {"window": win, "groups": groups, "flip": flip}
    for op in OPS:
        ins, (out,) = node(op, x, w, dy)
        found, expected = (
            one_node.run(op, list(ins), [(out.shape, "float32")], attrs, backend, way=way)[0]
            for backend, way in ((WITH_LIBRARY, "cudnn"), ("numpy", ""))
        )
        np.testing.assert_array_equal(found, expected)


def test_a_transposed_convolution():
    win = transposed_window((5, 4), (3, 3), (2, 2), "same", (1, 1), (0, 0)).forward((5, 4))
    dy, w = integers(2, 5, 4, 6), integers(3, 3, 4, 6)
    attrs = {"window": win, "groups": 1, "flip": False}
    found, expected = (
        one_node.run("conv2d_dx", [dy, w], [((2, 10, 8, 4), "float32")], attrs, backend)[0]
        for backend in (WITH_LIBRARY, "numpy")
    )
    np.testing.assert_array_equal(found, expected)


class TestChains:
    ATTRS = {"window": window((6, 5), (3, 3), (1, 1), "same"), "groups": 1, "flip": True}  # noqa: RUF012
    EXTRAS = {"bias": [integers(7)], "add": [integers(2, 6, 5, 7)], "relu": [], "gelu": []}  # noqa: RUF012

    def run(self, names, backend, way=""):
        x, w = integers(2, 6, 5, 4), integers(3, 3, 4, 7)
        ins, parts = [x, w], [("conv2d", 2, self.ATTRS)]
        for name in names:
            ins += self.EXTRAS[name]
            parts.append((name, len(self.EXTRAS[name]), {"approximate": "none"} if name == "gelu" else {}))
        op = "+".join(("conv2d", *names))
        device = devices.create(backend)
        values = tuple(value(a.shape) for a in ins)
        out = np.full((2, 6, 5, 7), np.nan, np.float32)
        attrs = {"parts": tuple(parts), "way": way or device.capabilities.ways(op, values, (), {"parts": parts})[0]}
        scratch = tuple(
            device.view(device.buffer(1 << 23), 0, s.shape, s.dtype)
            for s in device.capabilities.scratch(op, values, (value(out.shape),), attrs)
        )
        step = device.kernel(op)(tuple(ins), (out,), scratch, **attrs)
        device.run([step])
        (y,) = one_node.run("conv2d", [x, w], [(out.shape, "float32")], self.ATTRS)
        for name in names:
            y = np.maximum(y, 0) if name == "relu" else y + self.EXTRAS[name][0]
        np.testing.assert_array_equal(out, y)
        return device.device.convolved, step

    @pytest.mark.parametrize("names", library.FUSED)
    def test_one_kernel_does_all(self, names):
        ((how, plan),), step = self.run(names, WITH_LIBRARY, "cudnn 2")
        assert plan == 1
        assert set(how.epilogue) == set(names)
        assert how.epilogue == tuple(sorted(names)), "a sum comes before the bias"
        assert step.launches == 2, "the weights are turned, and one more"

    @pytest.mark.parametrize("names", library.FUSED)
    def test_where_it_has_no_plan_our_kernels_do_it(self, names):
        convolved, step = self.run(names, WITH_LIBRARY, LIBRARY[-1])
        assert not convolved
        assert isinstance(step, Instead)

    def test_the_convolution_alone_goes_by_the_library_where_the_whole_does_not(self, monkeypatch):
        real = Emulator.convolution
        monkeypatch.setattr(
            Emulator, "convolution", lambda self, how, *rest: None if how.epilogue else real(self, how, *rest)
        )
        ((how, _),), step = self.run(("bias", "relu"), WITH_LIBRARY, "cudnn")
        assert how.epilogue == ()
        assert not isinstance(step, Instead)

    def test_a_bias_of_another_type_is_added_by_a_kernel_of_its_own(self, monkeypatch):
        """As in mixed precision, where it stays float32 beside half activations."""
        x, w, y = (np.zeros(s, np.float32) for s in ((1, 6, 5, 4), (3, 3, 4, 7), (1, 6, 5, 7)))
        device, bias = Emulator(plans=1), np.zeros(7, np.float64)
        parts = (("conv2d", 2, self.ATTRS), ("bias", 1, {}))
        space = np.zeros_like(w), np.zeros(10, np.uint8)
        assert library.fused(device, (x, w, bias), (y,), space, parts, "cudnn") is None
        assert library.fused(device, (x, w, bias.astype("float32")), (y,), space, parts, "cudnn") is not None

    def test_what_the_library_cannot_is_no_part_of_its_kernel(self):
        device = Emulator(plans=1)
        parts = (("conv2d", 2, self.ATTRS), ("bias", 1, {}), ("tanh", 0, {}))
        assert library.fused(device, (None, None, None), (None,), (None, None), parts, "cudnn") is None
        turned = (("conv2d_dx", 2, self.ATTRS), ("bias", 1, {}))
        assert library.fused(device, (None, None, None), (None,), (None, None), turned, "cudnn") is None


def test_a_missing_plan_is_known_and_gives_the_same():
    device = CupyBackend(Emulator(plans=1))
    win = window((5, 5), (3, 3), (1, 1), "same")
    x, w, y = integers(2, 5, 5, 4), integers(3, 3, 4, 6), np.zeros((2, 5, 5, 6), np.float32)
    scratch = np.zeros_like(w), np.zeros(1 << 16, np.uint8)
    attrs = {"window": win, "groups": 1, "flip": False}
    first = device.kernel("conv2d")((x, w), (y,), scratch, **attrs, way="cudnn")
    second = device.kernel("conv2d")((x, w), (y,), scratch, **attrs, way="cudnn 2")
    assert (device.instead(first), device.instead(second)) == (False, True)
    device.run([first])
    once = y.copy()
    device.run([second])
    np.testing.assert_array_equal(once, y)
    assert PLANS > 1


def test_a_chain_of_steps_is_what_its_parts_are():
    plain, other = Queued(print), Instead(print, 2)
    assert (type(chain((plain, plain))), chain((plain, plain)).launches) == (Queued, 2)
    assert (type(chain((plain, other))), chain((plain, other)).launches) == (Instead, 3)
    assert not isinstance(chain((other, print)), Queued)
