"""Compiled batches of pictures whose pixels change, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnforge.backends import create
from cnnforge.backends.numba.distort import CompiledDistort
from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.data.adapt import Adaptation
from cnnforge.spec import AugmentSpec

BACKEND = create("numba", threads=1)
AFFINE = {"rotate": 20, "scale": [0.8, 1.3], "shear": 10, "translate": 0.2}
COLOUR = {"brightness": 0.3, "contrast": 0.5, "saturation": 0.6, "hue": 0.3}
MOVES = {"crop": {"padding": 1, "border": "zero"}, "flip": {}, "vertical_flip": {}, "shift": {"share": 0.3}}
WARPS = [
    {"rotate": {"degrees": 90}},
    {"affine": AFFINE, "border": "edge"},
    {"affine": AFFINE, "border": "reflect", **MOVES},
    {"elastic": {"alpha": 9, "sigma": 1.5}, "border": "reflect"},
    {"elastic": {"sigma": 30}, "affine": AFFINE},
    {"colour": COLOUR, "erase": {}},
    {"rotate": {"degrees": 9}, "affine": AFFINE, "elastic": {}, "colour": COLOUR, "cutout": {"size": 1}, **MOVES},
]  # fmt: skip
#: Nothing is interpolated.
ERASINGS = [
    {"cutout": {"size": 1, "fill": "black"}, **MOVES},
    {"erase": {"rate": 0.9, "area": [0.1, 0.9], "ratio": [0.1, 10], "fill": "black"}, "cutout": {"size": 1}},
]
CHANNELS = [(1, 1), (1, 3), (3, 3), (2, 2), (5, 5), (1, 4)]


def pair(x, channels, kinds, size=4, number=0):
    """The same batches made by NumPy and by compiled code, and the factor of normalisation."""
    draw = np.random.default_rng(number)
    c = x.shape[3]
    mean, std = tuple(draw.uniform(0, 255, c).tolist()), tuple(draw.uniform(1, 90, c).tolist())
    rule = Adaptation((*x.shape[1:3], channels), c, "refuse")
    made = Preprocessing(rule, str(x.dtype), mean, std)
    augment = AugmentSpec.model_validate(kinds)
    return [
        Batches(Split(x, np.arange(len(x))), made, size, seed=number, shuffle=True, augment=augment, backend=backend)
        for backend in (None, BACKEND)
    ], min(std)


def filled(batches, n, shape, epoch):
    """(steps, n + 2, *shape): what each batch becomes, between rows that are not its own."""
    outs = np.full((batches.steps_per_epoch, n + 2, *shape), 7, np.float32)
    for step, out in enumerate(outs):
        batches.fill(batches.epoch(epoch), step, out[1:-1], np.empty(n, np.int64))
    return outs


@settings(deadline=None)
@given(
    st.integers(4, 33), st.integers(4, 33), st.sampled_from(CHANNELS), st.integers(1, 9), st.integers(1, 5),
    st.integers(0, 3 + len(WARPS)), st.integers(0, 9), st.sampled_from([np.uint8, np.float32]),
)  # fmt: skip
def test_compiled_is_numpy(height, width, channels, n, size, which, number, kind):
    """To a hundredth of a grey level; to the bit where rectangles are all there is."""
    kept, wanted = channels
    kinds = [*WARPS, *ERASINGS, *ERASINGS][which]
    x = np.random.default_rng(number).integers(0, 256, (n, height, width, kept)).astype(kind)
    (plain, compiled), deviation = pair(x, wanted, kinds, size, number)
    assert isinstance(compiled._distorted, CompiledDistort)
    expected, found = (filled(b, size, (height, width, wanted), 2**33 + number) for b in (plain, compiled))
    if kinds in ERASINGS:
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() * deviation < 0.01
    assert (found[:, [0, -1]] == 7).all(), "nothing outside the batch is touched"


def test_elastic_fields_are_the_generators():
    """Displacements large enough that another noise gives another picture."""
    x = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1), dtype=np.uint8)
    (plain, compiled), deviation = pair(x, 1, {"elastic": {}}, 70)
    expected, found, other = (filled(b, 70, (28, 28, 1), e) for b, e in ((plain, 5), (compiled, 5), (compiled, 6)))
    assert np.abs(found - expected).max() * deviation < 0.01
    assert np.abs(found - other).mean() * deviation > 10


@pytest.mark.parametrize("kinds", [*WARPS, *ERASINGS])
def test_a_sample_is_the_same_in_any_batch(kinds):
    x = np.random.default_rng(0).integers(0, 256, (11, 12, 9, 3), dtype=np.uint8)
    by_sample = []
    for size in (3, 11):
        batches = pair(x, 3, kinds, size)[0][1]
        found, out, labels = np.empty(x.shape, np.float32), np.empty((size, 12, 9, 3), np.float32), np.empty(size, int)
        for step in range(batches.steps_per_epoch):
            n = batches.fill(batches.epoch(4), step, out, labels)
            found[labels[:n]] = out[:n]
        by_sample.append(found)
    np.testing.assert_array_equal(*by_sample)


def test_what_is_left_to_numpy():
    x = np.zeros((4, 6, 6, 3))
    rule = Adaptation((6, 6, 3), 3, "refuse")
    made = Preprocessing(rule, "float32", (0.0,) * 3, (1.0,) * 3)
    augment = AugmentSpec.model_validate({"rotate": {"degrees": 9}})
    batches = Batches(Split(x, np.arange(4)), made, 2, seed=0, shuffle=False, augment=augment, backend=BACKEND)
    assert batches._distorted is None


def test_arrays_that_would_be_overrun_are_refused():
    distort = pair(np.zeros((4, 6, 6, 1), np.uint8), 3, {"erase": {}})[0][1]._distorted
    rows, drawn, out = np.zeros(2, np.int64), np.zeros((2, 24), np.float32), np.empty((2, 6, 6, 3), np.float32)
    distort(rows, None, drawn, 0, out)
    for wrong in ((drawn[:1], out), (drawn, out[:1]), (drawn.astype(float), out), (drawn[:, ::2], out)):
        with pytest.raises(AssertionError):
            distort(rows, None, wrong[0], 0, wrong[1])
