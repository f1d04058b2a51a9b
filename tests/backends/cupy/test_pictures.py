"""Batches that the device makes are NumPy's: to the bit where nothing is summed up, else to 0.01 grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from cnnforge.backends.base import DRAWN, MIXED, Order
from cnnforge.backends.cupy import pictures
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.pictures import layout
from cnnforge.data import Batches, Preprocessing, Split
from cnnforge.data.adapt import Adaptation
from cnnforge.spec import AugmentSpec
from tests.backends.cupy.emulator import Emulator
from tests.backends.cupy.test_sources import ptx_of

FOLDER = Path(__file__).parents[3] / "configs/augment"
SHIPPED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
AFFINE = {"rotate": 20, "scale": [0.8, 1.3], "shear": 10, "translate": 0.2}
COLOUR = {"brightness": 0.3, "contrast": 0.5, "saturation": 0.6, "hue": 0.3}
MOVES = {"crop": {"padding": 1, "border": "zero"}, "flip": {}, "vertical_flip": {}, "shift": {"share": 0.3}}
KINDS = {
    **SHIPPED,
    "moves": MOVES,
    "shift_reflect": {"shift": {"share": 0.3, "border": "reflect"}},
    "rotate": {"rotate": {"degrees": 90}},
    "edge": {"affine": AFFINE, "border": "edge"},
    "reflect": {"affine": AFFINE, "border": "reflect", **MOVES},
    "elastic_far": {"elastic": {"alpha": 9, "sigma": 30}, "border": "reflect"},
    "colour_erase": {"colour": COLOUR, "erase": {"rate": 0.9}},
    "black": {"cutout": {"size": 3, "fill": "black"}, "erase": {"rate": 0.9, "area": [0.1, 0.9]}, **MOVES},
    "mixes": {"mixup": {"alpha": 0.4, "rate": 0.5}, "cutout": {"size": 2}},
    "cuts": {"cutmix": {"alpha": 1.0, "rate": 0.7}, "rotate": {"degrees": 9}},
    "everything": {
        "rotate": {"degrees": 9}, "affine": AFFINE, "elastic": {}, "colour": COLOUR, "cutout": {"size": 1},
        "mixup": {"alpha": 0.4}, **MOVES,
    },
}  # fmt: skip
#: Kept channels and the input's.
CHANNELS = [(1, 1), (1, 3), (3, 3), (2, 2), (1, 4)]
SIZE, SAMPLES, BATCH = (9, 12), 11, 4


class Counting(Emulator):
    """Adds up what it gives."""

    def __init__(self) -> None:
        super().__init__(opaque=True)
        self.given = 0

    def zeros(self, nbytes):
        self.given += nbytes
        return super().zeros(nbytes)


def summed(kinds):
    """Is anything added up over more than a few pixels?"""
    return "elastic" in kinds or "colour" in kinds


def preprocessing(channels, kind="uint8", size=SIZE):
    kept, wanted = channels
    draw = np.random.default_rng(kept)
    mean, std = draw.uniform(0, 255, kept).tolist(), draw.uniform(20, 90, kept).tolist()
    return Preprocessing(Adaptation((*size, wanted), kept, "refuse"), kind, tuple(mean), tuple(std))


def made_by(backend, kinds, channels=(3, 3), stays=True, x=None, shuffle=True, batch=BATCH):
    """NumPy's batches, and those of a device."""
    x = stored(channels[0]) if x is None else x
    stock = backend.stock(x, batch, stays)
    augment = AugmentSpec.model_validate(kinds)
    split, prepared = Split(x, np.arange(len(x))), preprocessing(channels, size=x.shape[1:3])
    return [
        Batches(split, prepared, batch, seed=3, shuffle=shuffle, augment=augment, stock=own) for own in (None, stock)
    ]


def stored(c, samples=SAMPLES):
    return np.random.default_rng(0).integers(0, 256, (samples, *SIZE, c), dtype=np.uint8)


def input_of(backend, batches_of, batch=BATCH, dtype="float32"):
    """A device's array of a batch, and its canvas."""
    shape = (batch, *batches_of._preprocessing.input)
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = backend.view(backend.buffer(nbytes), 0, shape, dtype)
    return array, backend.canvas(array)


def labels_for(batches):
    return np.full((BATCH, 3) if batches._mixing else (BATCH,), 7.0)


def through(backend, batches, turn, epoch, step):
    """What a batch becomes on the device, and its labels."""
    (array, canvas), labels = turn, labels_for(batches)
    n = batches.fill(batches.epoch(epoch), step, canvas, labels)
    backend.send(canvas[:n], array[:n])
    return backend.get(array)[:n], labels


def on_host(batches, shape, epoch, step):
    """The same by NumPy."""
    out, labels = np.full((BATCH, *shape), 7, np.float32), labels_for(batches)
    n = batches.fill(batches.epoch(epoch), step, out, labels)
    return out[:n], labels


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS.keys())
def test_every_batch_is_numpys(kinds, channels):
    """Pictures that stay and such that are sent, in turns on two canvases, the partial last batch, another epoch."""
    backend = CupyBackend(Emulator(opaque=True))
    for stays in (True, False):
        plain, ours = made_by(backend, kinds, channels, stays)
        turns = [input_of(backend, ours) for _ in range(2)]
        for epoch in (0, 2**33 + 1):
            for step in range(ours.steps_per_epoch):
                expected, wanted = on_host(plain, (*SIZE, channels[1]), epoch, step)
                found, labels = through(backend, ours, turns[step % 2], epoch, step)
                np.testing.assert_array_equal(labels, wanted)
                if summed(kinds):
                    assert np.abs(found - expected).max() * 90 < 0.01
                else:
                    np.testing.assert_array_equal(found, expected)


def test_a_batch_without_shuffle_and_as_it_is():
    backend = CupyBackend(Emulator(opaque=True))
    plain, ours = made_by(backend, {}, (3, 3), shuffle=False)
    turn = input_of(backend, ours)
    for step in range(3):
        np.testing.assert_array_equal(through(backend, ours, turn, 0, step)[0], on_host(plain, (*SIZE, 3), 0, step)[0])


def test_many_fields_are_made_part_by_part(monkeypatch):
    backend = CupyBackend(Emulator(opaque=True))
    kinds = {"elastic": {}, "affine": AFFINE, "colour": COLOUR}
    found = []
    for most in (1 << 20, 2 * 16 * SIZE[0] * SIZE[1] + 1, 1):
        monkeypatch.setattr(pictures, "FIELDS", most)
        before = backend.device.launched
        ours = made_by(backend, kinds)[1]
        found.append(through(backend, ours, input_of(backend, ours), 1, 0)[0])
        found.append(backend.device.launched - before)
    assert found[1::2] == [4 + 2, 2 * 4 + 2, 4 * 4 + 2]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[0], found[4])


def test_pictures_with_more_pixels_than_threads():
    x = np.random.default_rng(0).integers(0, 256, (3, 130, 140, 1), dtype=np.uint8)
    backend = CupyBackend(Emulator(opaque=True))
    plain, ours = made_by(backend, {"affine": AFFINE, "mixup": {"alpha": 1}, "cutout": {"size": 40}}, (1, 1), x=x)
    turn = input_of(backend, ours)
    found, expected = through(backend, ours, turn, 2, 0)[0], on_host(plain, (130, 140, 1), 2, 0)[0]
    np.testing.assert_array_equal(found, expected)


def test_a_filled_canvas_needs_nothing_else():
    """One is filled while another waits, and what it was filled from may change."""
    backend = CupyBackend(Emulator(opaque=True))
    plain, ours = made_by(backend, KINDS["everything"], stays=False)
    turns, epoch = [input_of(backend, ours) for _ in range(2)], ours.epoch(0)
    expected = [on_host(plain, (*SIZE, 3), 0, step)[0] for step in range(2)]
    for step, (_, canvas) in enumerate(turns):
        ours.fill(epoch, step, canvas, None)
    for drawn in (epoch.rows, epoch.picks, epoch.drawn, epoch.mixed):
        drawn[...] = 0
    for (array, canvas), wanted in zip(turns, expected, strict=True):
        assert not backend.get(array).any()
        backend.send(canvas, array)
        assert np.abs(backend.get(array) - wanted).max() * 90 < 0.01


def test_a_canvas_serves_several_splits_and_the_host():
    """Evaluation's is filled with validation and test, and with what the host makes."""
    backend = CupyBackend(Emulator(opaque=True))
    splits = [made_by(backend, {}, x=stored(3)[start:], stays=bool(start)) for start in (0, 2, 4)]
    floats = [
        Batches(
            Split(stored(3) / np.float32(255), np.arange(SAMPLES)),
            preprocessing((3, 3), "float32"),
            BATCH,
            seed=3,
            shuffle=True,
        )
    ] * 2
    turn = input_of(backend, splits[0][1])
    for plain, ours in (*splits, floats, *splits):
        for step in range(2):
            found, expected = through(backend, ours, turn, 0, step)[0], on_host(plain, (*SIZE, 3), 0, step)[0]
            np.testing.assert_array_equal(found, expected)


def test_what_is_left_to_the_host():
    backend = CupyBackend(Emulator(opaque=True))
    assert backend.stock(stored(3).astype(np.float32), BATCH, True) is None
    assert backend.stock(stored(3)[:0], BATCH, True) is None
    assert made_by(backend, {}, (2, 2))[1]._maker is not None
    assert made_by(backend, {}, (2, 4))[1]._maker is None


@pytest.mark.parametrize("kinds", ["none", "elastic_far", "everything"])
@pytest.mark.parametrize("stays", [True, False])
def test_memory_is_what_was_said(kinds, stays):
    device = Counting()
    backend = CupyBackend(device)
    x = stored(3)
    stock = backend.stock(x, BATCH, stays)
    augment = AugmentSpec.model_validate(KINDS[kinds])
    made = [
        Batches(
            Split(x, np.arange(len(x))),
            preprocessing((3, 3)),
            BATCH,
            seed=3,
            shuffle=True,
            augment=augment,
            stock=stock,
        )
        for _ in range(2)
    ]
    turns = [input_of(backend, made[0]) for _ in range(3)]
    assert stock.nbytes == stays * x.nbytes
    wanted, before = stock.nbytes + made[0].nbytes(2) + made[1].nbytes(1), device.given
    assert before == 3 * 4 * BATCH * x[0].size, "nothing is allocated before it is used"
    for step in range(3):
        for batches, turn in ((made[0], turns[0]), (made[0], turns[1]), (made[1], turns[2])):
            through(backend, batches, turn, 0, step)
    assert device.given - before == wanted


def test_orders_that_would_be_overrun_are_refused():
    backend = CupyBackend(Emulator(opaque=True))
    ours = made_by(backend, {})[1]
    array, canvas = input_of(backend, ours)
    ours.fill(ours.epoch(0), 0, canvas, None)
    with pytest.raises(AssertionError, match="4 samples were ordered, 3 are to be made"):
        backend.send(canvas, array[:3])
    with pytest.raises(AssertionError, match="made for 4 samples, ordered 5"):
        canvas.order(ours._maker, Order(np.zeros(5, np.int64), None, None, 0, None))
    double, canvas = input_of(backend, ours, dtype="float64")
    ours.fill(ours.epoch(0), 0, canvas, None)
    with pytest.raises(AssertionError, match="made as float32, not as float64"):
        backend.send(canvas, double)


def test_an_order_lies_as_kernels_read_it():
    whole = layout(3, True, True, (5, 7, 3))
    assert whole.parts["drawn"][1:] == ((3, DRAWN), "float32")
    assert whole.parts["mixed"][1:] == ((3, MIXED), "float32")
    ends = 0
    for at, shape, dtype in whole.parts.values():
        assert at >= ends
        assert at % 64 == 0
        ends = at + int(np.prod(shape)) * np.dtype(dtype).itemsize
    assert ends <= whole.nbytes
    assert list(layout(3, False, False, None).parts) == ["epoch", "rows", "picks"]


@pytest.mark.parametrize("kernel", ["pick_pictures", "distort_pictures", "mix_pictures"])
def test_products_are_rounded_before_they_are_added(kernel):
    """As NumPy does it, also where NVIDIA's compiler would fuse them."""
    (body,) = [part for part in ptx_of("pictures", "float32").split(".entry ")[1:] if part.startswith(kernel + "(")]
    assert "mul.rn.f32" in body
    assert "fma.rn.f32" not in body
