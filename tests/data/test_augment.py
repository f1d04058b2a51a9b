"""Moved pictures against padding, cutting and turning round with NumPy; and draws against what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnforge.data.augment import Moves
from cnnforge.rng import philox, stream
from cnnforge.spec import AugmentSpec


def moves(size: tuple[int, int] = (8, 8), seed: int = 0, **kinds: dict[str, Any]) -> Moves:
    return Moves(AugmentSpec.model_validate(kinds), size, seed)


@given(st.data(), st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.sampled_from([np.uint8, np.float32]))
def test_a_moved_picture_is_a_window_of_the_padded_one(data, height, width, c, kind) -> None:  # type: ignore[no-untyped-def]
    padding = data.draw(st.integers(0, min(height, width) - 1))
    border = data.draw(st.sampled_from(["reflect", "zero"]))
    crop = {"crop": {"padding": padding, "border": border}} if padding else {}
    made = moves((height, width), **crop, flip={})  # type: ignore[arg-type]
    x = np.random.default_rng(0).integers(1, 256, (3, height, width, c)).astype(kind)
    offsets = 2 * padding + 1
    assert (len(made.down), len(made.across)) == (offsets, 2 * offsets)
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(x, around, mode="reflect") if border == "reflect" else np.pad(x, around)
    picks = np.array([(data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, 2 * n - 1))) for n in [offsets] * 5])
    rows = np.array([2, 0, 1, 1, 2])
    out = np.empty((5, height, width, c), kind)
    made.gather(x, rows, picks.astype(np.int32), np.empty((5, height, width), np.int64), out)
    for i, (down, across) in enumerate(picks):
        left = across % offsets
        window = padded[rows[i], down : down + height, left : left + width]
        np.testing.assert_array_equal(out[i], window[:, ::-1] if across >= offsets else window)


@pytest.mark.parametrize("border", ["zero", "reflect", "edge"])
def test_a_shifted_picture_is_a_moved_one_after_crop_and_flips(border: str) -> None:
    crop, shift = {"padding": 2, "border": "zero"}, {"share": 0.25, "border": border}
    made = moves((9, 12), crop=crop, flip={}, vertical_flip={}, shift=shift)
    assert made.down.flags.c_contiguous
    assert made.across.flags.c_contiguous
    x = np.random.default_rng(0).integers(1, 256, (60, 9, 12, 2)).astype(np.uint8)
    picks = made.picks(60, 3)
    out = np.empty_like(x)
    made.gather(x, np.arange(60), picks, np.empty((60, 9, 12), np.int64), out)
    modes: dict[str, Any] = {"zero": "constant", "reflect": "reflect", "edge": "edge"}
    seen = set()
    for i in range(60):
        drawn: list[int] = []
        for name, n in (("crop", 2), ("flip", 1), ("vertical_flip", 1), ("shift", 2)):
            drawn += philox((0, i, 3, 0), stream(0, "augment", name))[:n]
        top, left = (u * 5 >> 32 for u in drawn[:2])
        picture = np.pad(x[i], ((2, 2), (2, 2), (0, 0)))[top : top + 9, left : left + 12]
        across, down = (u < 2**31 for u in drawn[2:4])
        picture = picture[:: -1 if down else 1, :: -1 if across else 1]
        by = (drawn[4] * 5 >> 32) - 2, (drawn[5] * 7 >> 32) - 3
        seen.add((down, across, *by))
        padded = np.pad(picture, ((3, 3), (3, 3), (0, 0)), mode=modes[border])
        wanted = padded[3 - by[0] : 12 - by[0], 3 - by[1] : 15 - by[1]]
        np.testing.assert_array_equal(out[i], wanted)
    assert [len(set(kind)) for kind in zip(*seen, strict=True)] == [2, 2, 5, 7]


def test_without_kinds_nothing_moves() -> None:
    assert moves().nothing
    assert not moves(flip={}).nothing
    assert not moves(crop={"padding": 1}).nothing


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 3), st.integers(0, 2**33))
def test_a_samples_draw_is_its_own(n: int, m: int, seed: int, epoch: int) -> None:
    made, again = (moves(seed=seed, crop={"padding": 3}, flip={}) for _ in range(2))
    made.picks(7, epoch + 1)
    few = min(n, m)
    np.testing.assert_array_equal(made.picks(n, epoch)[:few], again.picks(m, epoch)[:few])


def test_draws_differ_between_epochs_and_seeds() -> None:
    drawn = {
        moves(seed=seed, crop={"padding": 3}, flip={}).picks(40, e).tobytes() for seed in (0, 1) for e in (0, 1, 2**32)
    }
    assert len(drawn) == 6


def test_one_kind_does_not_change_what_another_draws() -> None:
    crop, flip, both = moves(crop={"padding": 2}), moves(flip={}), moves(crop={"padding": 2}, flip={})
    np.testing.assert_array_equal(both.picks(99, 4)[:, 0], crop.picks(99, 4)[:, 0])
    np.testing.assert_array_equal(both.picks(99, 4)[:, 1] % 5, crop.picks(99, 4)[:, 1])
    np.testing.assert_array_equal(both.picks(99, 4)[:, 1] // 5, flip.picks(99, 4)[:, 1])


def test_known_draws() -> None:
    """They are part of what a resumed run relies on: they must not change between versions."""
    assert moves(crop={"padding": 4}, flip={}).picks(6, 3).tolist() == KNOWN


KNOWN = [[4, 13], [5, 13], [7, 0], [0, 13], [6, 3], [4, 9]]


@given(st.integers(0, 9), st.integers(0, 2**40), st.integers(1, 3), st.floats(0, 1, exclude_max=True))
def test_draws_follow_from_the_generator_as_it_is_written_down(
    seed: int, epoch: int, padding: int, rate: float
) -> None:
    picks = moves(seed=seed, crop={"padding": padding}, flip={"rate": rate}).picks(5, epoch)
    n = 2 * padding + 1
    for sample in range(5):
        counter = (0, sample, epoch % 2**32, epoch >> 32)
        down, across, *_ = philox(counter, stream(seed, "augment", "crop"))
        flip, *_ = philox(counter, stream(seed, "augment", "flip"))
        turned = (flip >> 8) / 2**24 < rate
        assert picks[sample].tolist() == [down * n >> 32, (across * n >> 32) + n * turned]


def within(counts: NDArray[np.int64], n: int, share: float) -> None:
    """Five deviations of a binomial."""
    assert (np.abs(counts - n * share) <= 5 * (n * share * (1 - share)) ** 0.5).all(), counts


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_as_many_of_each_as_there_should_be(rate: float) -> None:
    n = 50_000
    picks = moves(seed=5, crop={"padding": 2}, flip={"rate": rate}).picks(n, 1)
    down, across, flipped = picks[:, 0], picks[:, 1] % 5, picks[:, 1] // 5
    within(np.bincount(down * 5 + across, minlength=25), n, 1 / 25)
    within(np.bincount(flipped, minlength=2)[1:], n, rate)
    within(np.bincount(down[flipped == 0], minlength=5), n, (1 - rate) / 5)
    assert (flipped == 1).any() == (rate > 0)
