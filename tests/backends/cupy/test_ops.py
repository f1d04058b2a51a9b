"""Kernels on arrays that one block does not hold, where sums are cut into parts, beside the numpy backend.

What fits one block is in tests/conformance.
"""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnforge.backends.cupy import cells, device
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.device import Queued
from cnnforge.backends.cupy.optimizer import square_parts
from cnnforge.backends.cupy.ranks import gather_ranks
from cnnforge.backends.cupy.signature import FOLDER
from cnnforge.backends.cupy.tensorwise import PIECE
from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.ir.graph import DEVICE_FIELDS, STEP_FIELDS, Value
from cnnforge.rng import stream
from cnnforge.shapes import window
from tests import one_node
from tests.backends.cupy.emulator import Emulator
from tests.conformance import halves
from tests.conformance.cases import Case
from tests.devices import EMULATED
from tests.ranks import together

RNG = np.random.default_rng(5)
X = (4, 9, 9, 40)  # more rows and more columns than a block has
WIDE = (3, 300)  # rows longer than a block
SCALING = np.array([2.0**12, 1999, 0, 0, 0.5, 3])
BLOCK = np.array([7, 3, 11, 0.01, 1 / 8, 0.5, 0.25, 0.9])


def real(*shape):
    return RNG.normal(size=shape).astype("float32")


def whole(*shape):
    return RNG.integers(-4, 5, shape).astype("float32")


def large(*shape):
    """Their sums are exact in float32, and in no half type."""
    return RNG.integers(-60, 61, shape).astype("float32")


def strange(n):
    """The last one is not finite."""
    x = real(n)
    x[-1] = np.nan
    return x


def f32(*shapes):
    return [(shape, "float32") for shape in shapes]


def labels(*shape):
    drawn = RNG.integers(-1, 50, shape)
    drawn.reshape(-1)[-1] = 49
    return drawn


C = X[-1:]
GROUPED = [real(*X) + 100, np.float32(100) + real(4, 4), abs(real(4, 4)) + 1, real(*X)]
ALL = 3000
SIZES = (3, 2 * PIECE + 5, 1)
TIES = whole(*WIDE)  # the first of equal scores is the answer
POOL = window((9, 9), (3, 3), (2, 2), (1, 0, 1, 1))
WEIGHTS = tuple(float(w) for w in RNG.integers(0, 4, 50))

#: op, ins, outs, attrs; True where all numbers are whole and small, so that every order of adding gives the same
CASES = [
    ("bias", [whole(*X), whole(*C)], f32(X), {}, True),
    ("bias_db", [large(*X)], f32(C), {}, True),
    ("prelu_dalpha", [large(*X), large(*X)], f32(C), {}, True),
    ("scale_channels", [whole(*X), whole(4, 1, 1, 40)], f32(X), {}, True),
    ("scale_channels_dgate", [large(2, 30, 30, 5), large(2, 30, 30, 5)], f32((2, 1, 1, 5)), {}, True),
    ("concat", [whole(*X), whole(4, 9, 9, 3)], f32((4, 9, 9, 43)), {}, True),
    ("slice_channels", [whole(*X)], f32((4, 9, 9, 33)), {"start": 5}, True),
    ("channel_shuffle", [whole(*X)], f32(X), {"groups": 5}, True),
    ("shortcut_pad", [whole(*X)], f32((4, 5, 3, 50)), {"stride": (2, 3)}, True),
    ("shortcut_pad_dx", [whole(4, 5, 3, 50)], f32(X), {"stride": (2, 3)}, True),
    ("max_pool2d", [whole(*X)], [((4, *POOL.out, 40), t) for t in ("float32", "uint8")], {"window": POOL}, True),
    ("max_pool2d", [whole(*X)], [((4, *POOL.out, 40), t) for t in ("float32", "int32")], {"window": POOL}, True),
    ("average_pool2d", [real(*X)], f32((4, *POOL.out, 40)), {"window": POOL, "count_include_pad": False}, False),
    ("average_pool2d_dx", [real(4, *POOL.out, 40)], f32(X), {"window": POOL, "count_include_pad": True}, False),
    ("batch_norm", [real(*X) + 100, real(*C), real(*C)], f32(X, C, C, C), {"epsilon": 1e-3}, False),
    (
        "batch_norm_dparams",
        [real(*X) + 100, np.float32(100) + real(*C), abs(real(*C)) + 1, real(*X)], f32(C, C), {"epsilon": 1e-3}, False,
    ),
    ("group_norm", [real(*X) + 100, real(*C), real(*C)], f32(X, (4, 4), (4, 4)), {"groups": 4, "epsilon": 0.1}, False),
    ("group_norm_dgamma", GROUPED, f32(C), {"groups": 4}, False),
    ("group_norm_dx", [GROUPED[0], real(*C), *GROUPED[1:]], f32(X), {"groups": 4}, False),
    ("layer_norm", [real(*WIDE), real(300), real(300)], f32(WIDE, (3,), (3,)), {"epsilon": 0.1}, False),
    ("layer_norm_dx", [real(*WIDE), real(300), real(3), abs(real(3)) + 1, real(*WIDE)], f32(WIDE), {}, False),
    ("layer_norm_dgamma", [real(*X), real(*X[:-1]), abs(real(*X[:-1])) + 1, real(*X)], f32(C), {}, False),
    ("lrn_dx", [real(*X), abs(real(*X)) + 1, real(*X)], f32(X), {"size": 5, "alpha": 0.5, "beta": 0.75}, False),
    ("softmax", [10 * real(*WIDE)], f32(WIDE), {}, False),
    ("softmax_dx", [abs(real(*WIDE)), real(*WIDE)], f32(WIDE), {}, False),
    ("softmax_cross_entropy", [TIES, TIES.argmax(axis=1)], f32((3,), (3,)), {}, False),
    ("softmax_cross_entropy_dz", [real(*WIDE), np.array([0, 7, 299])], f32(WIDE), {}, False),
    ("soft_cross_entropy", [real(2, 3, 300), abs(real(2, 3, 300)), labels(2, 3)], f32((2,), (2,)), {}, False),
    ("sigmoid_cross_entropy", [3 * real(*WIDE), abs(whole(*WIDE)) % 2], f32((3,), (3,)), {}, False),
    ("mse", [real(*WIDE), real(*WIDE)], f32((3,), (3,)), {}, False),
    ("class_targets", [labels(4, 150)], f32((4, 150, 50)), {"smoothing": 0.1, "weights": WEIGHTS}, False),
    ("label_weights", [labels(4, 150)], f32((1,)), {"weights": WEIGHTS}, True),
    ("dropout", [real(3, 700), BLOCK], [((3, 700), "float32"), ((3, 700), "bool")],
     {"rate": 0.3, "key": stream(1, "dropout", "d")}, False),
    ("clip_norm", [whole(5000), BLOCK], [0, ((1,), "float32")], {"most": 0.5}, False),
    ("scale_loss", [whole(5000), SCALING], f32((5000,)), {}, True),
    ("guard", [real(5000), SCALING], [0, 1], {}, True),
    ("guard", [strange(5000), SCALING], [0, 1], {}, True),
    ("lamb", [real(sum(SIZES)), real(sum(SIZES)), BLOCK, real(sum(SIZES)), abs(real(sum(SIZES)))], [0, 3, 4],
     {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6, "weight_decay": 0.1, "sizes": SIZES}, False),
    ("muon", [real(2809), real(2809), BLOCK, real(2809)], [0, 3],
     {"momentum": 0.9, "nesterov": True, "coefficients": (2.0, -1.5, 0.5), "steps": 3, "epsilon": 1e-7,
      "weight_decay": 0.1, "matrices": ((40, 70), (3, 3)), "factors": (1.0, 1.5)}, False),
    ("adam", [real(ALL), real(ALL), BLOCK, real(ALL), abs(real(ALL))], [0, 3, 4],
     {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6, "weight_decay": 0.1}, False),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_kernel_reads_the_devices_memory(monkeypatch):
    gpu, cpu = CupyBackend(Emulator(opaque=True)), NumpyBackend()
    monkeypatch.setattr(one_node, "_device", {EMULATED: gpu, "numpy": cpu}.__getitem__)


@pytest.mark.parametrize(("op", "ins", "outs", "attrs", "exact"), CASES, ids=[case[0] for case in CASES])
def test_as_the_numpy_backend(op, ins, outs, attrs, exact):
    expected = one_node.run(op, ins, outs, attrs, "numpy")
    for got, wanted in zip(one_node.run(op, ins, outs, attrs, EMULATED), expected, strict=True):
        if exact or wanted.dtype.kind != "f":
            np.testing.assert_array_equal(got, wanted)
        else:
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * max(1.0, float(abs(wanted).max())))


NARROW = [case for case in CASES if case[0] in halves.OPS]


@pytest.mark.parametrize("half", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("op", "ins", "outs", "attrs", "exact"), NARROW, ids=[case[0] for case in NARROW])
def test_halves_are_rounded_once_however_many_parts_were_added_up(op, ins, outs, attrs, exact, half):
    halves.assert_near(op, Case(ins, outs, [], attrs, exact), half, EMULATED, largest=True)


@given(st.integers(1, 5000), st.integers(1, 99), st.integers(1, 1500), st.floats(0, 1))
@example(4096, 4, 600, 0.85)  # 600 samples are not cut at all, 510 of them in two
def test_workspace_is_enough_for_fewer_samples_than_planned(positions, columns, planned, share):
    n = max(1, int(planned * share))
    parts = cells.parts_of(positions, columns, n)
    space = Value(0, "", (planned, positions, columns), "act", "float32", True)
    assert parts == 1 or n * parts * columns <= cells.sum_scratch(space, samples=planned)[0].shape[0]
    parts = cells.parts_of(n * positions, columns)
    assert parts == 1 or parts * columns <= cells.sum_scratch(space)[0].shape[0]


def test_what_is_tried_above_is_cut_into_parts():
    assert cells.parts_of(4 * 81, 40) > 1
    assert cells.parts_of(900, 5, samples=2) > 1
    assert square_parts(2800) > 1


@pytest.mark.parametrize("op", ["bias", "relu", "clip_value"])
def test_threads_go_on_where_there_are_too_few_blocks(op, monkeypatch):
    ins = {"bias": [whole(700, 3), whole(3)], "relu": [whole(700, 3)], "clip_value": [whole(2100), BLOCK]}[op]
    outs, attrs = ([0], {"most": 0.1}) if op == "clip_value" else (f32((700, 3)), {})
    (expected,) = one_node.run(op, ins, outs, attrs, "numpy")
    monkeypatch.setattr(cells, "MOST_BLOCKS", 2)
    monkeypatch.setattr(device, "MOST_BLOCKS", 2)
    np.testing.assert_array_equal(one_node.run(op, ins, outs, attrs, EMULATED)[0], expected)


@pytest.mark.parametrize("op", ["relu", "relu6", "leaky_relu", "elu", "softplus", "hard_swish", "gelu", "max_pool2d"])
def test_nan_stays_nan(op):
    x = np.array([1, np.nan, -1, 2], "float32").reshape(1, 2, 2, 1)
    attrs = {"leaky_relu": {"alpha": 0.1}, "elu": {"alpha": 1.0}, "gelu": {"approximate": "none"}}.get(op, {})
    if op == "max_pool2d":
        outs = [((1, 1, 1, 1), "float32"), ((1, 1, 1, 1), "uint8")]
        y, _ = one_node.run(op, [x], outs, {"window": window((2, 2), (2, 2), (2, 2), "valid")}, EMULATED)
        assert np.isnan(y).all()
    else:
        (y,) = one_node.run(op, [x], f32(x.shape), attrs, EMULATED)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_are_told_of_each_other(dtype):
    """The second is idle the first time: the same kernel is asked again, and does not remember."""

    def gathered(ranks):
        gpu = Emulator(opaque=True, together=ranks)
        gpu.join()
        x, v, w, into = (gpu.view(gpu.zeros(128), 0, s, dtype) for s in ((5 + ranks.rank, 2), (2,), (1,), (3, 4)))
        gpu.put(np.array([1.5, 2.5]) + 10 * ranks.rank, v)
        gpu.put(7 * ranks.rank, w)
        step = gather_ranks(gpu, (x, v, w), (into,), (), together=ranks)
        assert not isinstance(step, Queued), "a graph would ask once whether the samples count"
        seen = []
        for shard in (range(ranks.rank != 1), range(1)):
            ranks.take(shard)
            gpu.run([step])
            seen.append(gpu.get(into).tolist())
        return seen

    rows = [[5, 1.5, 2.5, 0], [6, 11.5, 12.5, 7], [7, 21.5, 22.5, 14]]
    assert together(3, gathered) == [[[rows[0], [0, 0, 0, 0], rows[2]], rows]] * 3


def test_too_many_rows_are_an_error():
    with pytest.raises(ValueError, match="positions are more than a kernel counts"):
        cells.matrix((1 << 16, 1 << 15, 3))


def test_the_source_names_the_fields_of_the_step_block_in_their_order():
    named = re.findall(r"enum \{ (.*?) \}", (FOLDER / "step.cuh").read_text())
    assert [tuple(names.lower().split(", ")) for names in named] == [STEP_FIELDS, DEVICE_FIELDS]


def test_blocks_are_as_large_as_the_shared_memory_of_a_sum():
    assert f"#define MOST_THREADS {cells.THREADS}\n" in (FOLDER / "cells.cuh").read_text()
