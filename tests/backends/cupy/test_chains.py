"""Chains that are one kernel: to the bit what their parts give one after another."""

from functools import partial

import numpy as np
import pytest

from cnnforge.backends.cupy.activation import FUNCTIONS, SLOPES
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import CAPABILITIES
from cnnforge.backends.cupy.chains import CHAINS
from cnnforge.backends.cupy.device import Queued
from cnnforge.shapes import window
from tests import one_node
from tests.backends.cupy.emulator import Emulator
from tests.devices import EMULATED

RNG = np.random.default_rng(11)
X = (3, 7, 5, 6)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 6.0)
WIN = window(X[1:3], (3, 3), (2, 2), (1, 0, 1, 1))
ONE = window(X[1:3], (1, 1), (1, 1), (0, 0, 0, 0))
Y = (3, *WIN.out, 6)


def real(*shape):
    """Numbers with one NaN, in the first channel of the first sample."""
    drawn = 3 * RNG.normal(size=shape)
    drawn.reshape(-1)[0] = np.nan
    return drawn


def positive(*shape):
    return abs(RNG.normal(size=shape)) + 0.5


def anything(shape):
    """A third of them ends, zeros and corners of functions."""
    drawn = 3 * RNG.normal(size=shape)
    return np.where(RNG.random(shape) < 0.3, RNG.choice(SPECIAL, shape), drawn)


def conv(op, w, win, groups):
    y = (3, *win.out, w[-1])
    ins, out = ((X, w), y) if op == "conv2d" else ((y, w), X)
    return op, [real(*shape) for shape in ins], [out], {"window": win, "groups": groups, "flip": False}


C = X[-1:]
PADDED = {"window": WIN, "count_include_pad": False}
WINNER = RNG.integers(0, 9, Y).astype("uint8")
#: Every head: op, ins, shapes of outs (with a dtype where it is another), attrs
HEADS = [
    *(conv(op, (3, 3, 6, 5), WIN, 1) for op in ("conv2d", "conv2d_dx")),
    *(conv(op, (3, 3, 3, 4), WIN, 2) for op in ("conv2d", "conv2d_dx")),
    *(conv(op, (1, 1, 6, 5), ONE, 1) for op in ("conv2d", "conv2d_dx")),
    *(conv(op, (3, 3, 1, 12), WIN, 6) for op in ("conv2d", "conv2d_dx")),
    ("matmul", [real(3, 70), real(70, 66)], [(3, 66)], {}),
    ("matmul_dx", [real(3, 66), real(70, 66)], [(3, 70)], {}),
    ("max_pool2d", [real(*X)], [Y, (Y, "uint8")], {"window": WIN}),
    ("max_pool2d", [real(*X)], [Y, (Y, "int32")], {"window": WIN}),
    ("max_pool2d_dx", [WINNER, real(*Y)], [X], {"window": WIN}),
    ("max_pool2d_dx", [WINNER.astype("int32"), real(*Y)], [X], {"window": WIN}),
    ("average_pool2d", [real(*X)], [Y], PADDED),
    ("average_pool2d_dx", [real(*Y)], [X], PADDED),
    ("batch_norm", [real(*X), real(*C), real(*C)], [X, C, C, C], {"epsilon": 1e-3}),
    ("batch_norm_inference", [real(*X), real(*C), real(*C), real(*C), positive(*C)], [X], {"epsilon": 1e-3}),
    ("batch_norm_dx", [real(*X), real(*C), real(*C), positive(*C), real(*C), real(*C), real(*X)], [X],
     {"epsilon": 1e-3}),
    ("group_norm", [real(*X), real(*C), real(*C)], [X, (3, 2), (3, 2)], {"groups": 2, "epsilon": 1e-3}),
    ("group_norm_dx", [real(*X), real(*C), real(3, 2), positive(3, 2), real(*X)], [X], {"groups": 2}),
    ("layer_norm", [real(*X), real(*C), real(*C)], [X, X[:-1], X[:-1]], {"epsilon": 1e-3}),
    ("layer_norm_dx", [real(*X), real(*C), real(*X[:-1]), positive(*X[:-1]), real(*X)], [X], {}),
    ("dropout_dx", [RNG.random(X) < 0.5, real(*X)], [X], {"rate": 0.3}),
    ("slice_channels", [real(*X)], [(*X[:-1], 3)], {"start": 2}),
    ("scale_channels", [real(*X), real(3, 1, 1, 6)], [X], {}),
    ("bias", [real(*X), real(*C)], [X], {}),
    ("scale", [real(*X)], [X], {"factor": 0.7}),
    *((op, [anything(X), anything(X)], [X], {}) for op in ("add", "multiply")),
]  # fmt: skip
ATTRS = {
    "leaky_relu": {"alpha": 0.3}, "elu": {"alpha": 1.3}, "gelu": {"approximate": "none"}, "scale": {"factor": 0.7},
}  # fmt: skip
ATTRS |= {f"{op}_dx": attrs for op, attrs in ATTRS.items()}


def heads(op):
    """All cases of a head; an element-wise function is one by itself."""
    if op in FUNCTIONS or op in SLOPES:
        return [(op, [anything(X) for _ in range(1 + (op in SLOPES))], [X], ATTRS.get(op, {}))]
    return [case for case in HEADS if case[0] == op]


def beside(op, shape):
    """What a part reads beside what it follows."""
    if op == "bias":
        return [anything(shape[-1:])]
    return [anything(shape)] if op in ("add", "multiply") or op in SLOPES else []


def typed(arrays, dtype):
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(found[there].view("uint8"), expected[there].view("uint8"))


def compare(chain, dtype, attrs_of=ATTRS):
    """Runs the chain, where it can over what it reads too, and its parts one by one."""
    first, *rest = chain.split("+")
    cases = heads(first)
    assert cases, f"nothing to try {first} on"
    for head, ins, shapes, attrs in cases:
        outs = [s if isinstance(s[-1], str) else (s, dtype) for s in shapes]
        extras = [typed(beside(op, outs[0][0]), dtype) for op in rest]
        ins = typed(ins, dtype)
        expected = one_node.run(head, ins, outs, attrs, EMULATED)
        for op, extra in zip(rest, extras, strict=True):
            read = [*extra, expected[0]] if op in SLOPES else [expected[0], *extra]
            expected[:1] = one_node.run(op, read, outs[:1], attrs_of.get(op, {}), EMULATED)
        parts = (
            (head, len(ins), attrs),
            *((op, len(e), attrs_of.get(op, {})) for op, e in zip(rest, extras, strict=True)),
        )
        everything = [*ins, *(array for extra in extras for array in extra)]
        ways = [outs]
        if chain in CAPABILITIES.inplace:
            ways.append([CAPABILITIES.inplace[chain], *outs[1:]])
        for written in ways:
            found = one_node.run(chain, everything, written, {"parts": parts}, EMULATED)
            for got, wanted in zip(found, expected, strict=True):
                assert_same_bits(got, wanted)


#: What nets are made of. Each is a compilation of its own, and there are hundreds.
SOME = {
    "conv2d+bias+add+relu", "conv2d_dx+add+relu_dx", "matmul+bias+sigmoid", "max_pool2d+bias+relu",
    "max_pool2d_dx+relu_dx", "batch_norm+add+relu", "batch_norm_dx+add+relu_dx", "group_norm+silu", "layer_norm+gelu",
    "add+add+add+leaky_relu_dx", "elu+scale",
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def device():
    return CupyBackend(Emulator(opaque=True))


@pytest.fixture(autouse=True)
def _no_kernel_reads_the_devices_memory(monkeypatch, device):
    monkeypatch.setattr(one_node, "_device", {EMULATED: device}.__getitem__)


@pytest.mark.parametrize("chain", [c if c in SOME else pytest.param(c, marks=pytest.mark.slow) for c in sorted(CHAINS)])
def test_a_chain_gives_what_its_parts_give(chain):
    compare(chain, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("chain", sorted(SOME))
def test_and_in_float64(chain):
    compare(chain, "float64")


def half(arrays, dtype):
    """Activations of a half type; what is of one number for each channel is never."""
    return [a.astype(dtype) if a.ndim > 1 else a for a in arrays]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("chain", ["add+add+relu_dx", "batch_norm+add+relu", "conv2d+bias+relu", "matmul_dx+relu_dx"])
def test_halves_are_rounded_once_at_the_end(chain, dtype):
    """To the bit what floats give that were rounded to halves before: nothing is rounded on the way."""
    first, *rest = chain.split("+")
    for head, ins, shapes, attrs in heads(first):
        extras = [typed(beside(op, shapes[0]), "float32") for op in rest]
        parts = ((head, len(ins), attrs), *((op, len(extra), {}) for op, extra in zip(rest, extras, strict=True)))
        halves = half([*typed(ins, "float32"), *(array for extra in extras for array in extra)], dtype)
        floats = [array.astype("float32") for array in halves]
        outs = [[(s, d if len(s) > 1 else "float32") for s in shapes] for d in (dtype, "float32")]
        found, expected = (
            one_node.run(chain, arrays, out, {"parts": parts}, EMULATED)[0]
            for arrays, out in zip((halves, floats), outs, strict=True)
        )
        with np.errstate(over="ignore"):
            assert_same_bits(found, expected.astype(dtype))


def test_what_is_always_tried_is_there():
    assert SOME <= CHAINS
    parts = {op for chain in CHAINS for op in chain.split("+")[1:]}
    assert parts == {"add", "bias", "multiply", "scale", *FUNCTIONS, *SLOPES}


@pytest.mark.parametrize("chain", ["add+gelu", "add+gelu_dx"])
def test_of_a_function_with_two_forms_each(chain):
    compare(chain, "float32", {**ATTRS, chain[4:]: {"approximate": "tanh"}})


def test_a_chain_is_one_launch_more_than_what_its_head_takes_before_it_stores(device):
    before = device.device.launched
    compare("batch_norm+add+relu", "float32")
    # statistics in two kernels, then what is stored: alone, with its parts, each twice (see one_node); and the parts
    assert device.device.launched - before == 2 * (3 + 1 + 1) + 2 * 3


class Library(Emulator):
    """A device with products of its own, which know nothing of what follows."""

    def product(self, a, b, out, turn_a, turn_b, tf32):
        def run():
            left, right = (m.T if turn else m for m, turn in ((a, turn_a), (b, turn_b)))
            np.matmul(left, right, out=out)

        return Queued(run)


@pytest.mark.parametrize("chain", ["matmul+bias+add+relu", "matmul_dx+relu_dx", "conv2d+bias"])
def test_what_follows_a_librarys_product_is_one_kernel(chain, monkeypatch):
    library = CupyBackend(Library())
    first, *rest = chain.split("+")
    ins, (shape,), attrs = next((i, o, a) for op, i, o, a in HEADS if op == first and (not a or a["window"] == ONE))
    extras = [beside(op, shape) for op in rest]
    parts = ((first, 2, attrs), *((op, len(extra), {}) for op, extra in zip(rest, extras, strict=True)))
    everything = typed([np.nan_to_num(array) for array in ins], "float64") + [e for extra in extras for e in extra]
    run = partial(one_node.run, chain, everything, [(shape, "float64")], {"parts": parts}, EMULATED)
    (ours,) = run()
    monkeypatch.setattr(one_node, "_device", {EMULATED: library}.__getitem__)
    (found,) = run(twice=False)
    np.testing.assert_allclose(found, ours, rtol=1e-12, atol=1e-12)
    assert library.device.launched == 1
