"""The counter-based generator: the published words, and what follows from having no state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnforge.rng import normal, permutation, philox, philox_rounds, stream, uniform, words
from tests import one_node

ALL = 0xFFFFFFFF
#: Random123's kat_vectors, philox4x32 10: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL,) * 4, (ALL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
word = st.integers(0, ALL)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_words(counter, key, expected):
    assert philox(counter, key) == expected


@given(st.lists(st.tuples(word, word, word, word), min_size=1, max_size=5), st.tuples(word, word))
def test_many_at_once_are_the_same_as_one_by_one(counters, key):
    block = np.array(counters, np.uint64).T.copy()
    philox_rounds(block, key, np.empty((3, len(counters)), np.uint64))
    assert [tuple(int(w) for w in column) for column in block.T] == [philox(c, key) for c in counters]


def test_a_stream_is_named_by_seed_purpose_and_name():
    keys = {
        stream(seed, purpose, name) for seed in (0, 1) for purpose in ("init", "dropout") for name in ("", "a", "b")
    }
    assert len(keys) == 12
    assert all(0 <= half <= ALL for key in keys for half in key)
    # SHA-256 of "0:init:conv1.w" begins 13 7f ae 19 1d 80 bf 5f; another key would change every run that is resumed.
    assert stream(0, "init", "conv1.w") == (0x19AE7F13, 0x5FBF801D)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**40))
def test_words_lie_where_the_counter_says(first, samples, elements, step):
    key = stream(1, "test")
    drawn = words(key, np.arange(first, first + samples), elements, step)
    assert drawn.dtype == np.uint32
    assert drawn.shape == (samples, elements)
    for n, e in np.ndindex(samples, elements):
        assert drawn[n, e] == philox((e // 4, first + n, step & ALL, step >> 32), key)[e % 4]


def test_a_sample_draws_the_same_in_every_batch():
    key = stream(3, "test")
    whole = words(key, np.arange(10), 7, step=5)
    np.testing.assert_array_equal(whole[3:6], words(key, np.arange(3, 6), 7, step=5))
    np.testing.assert_array_equal(whole[:, :5], words(key, np.arange(10), 5, step=5))


def test_dropout_of_some_samples_is_that_of_the_whole_batch():
    x = np.ones((8, 3, 5), np.float32)
    attrs = {"rate": 0.5, "key": stream(0, "dropout", "drop1")}

    def dropped(part, first):
        block = np.zeros(7)
        block[1:3] = 11, first
        return one_node.run("dropout", [part, block], [(part.shape, "float32"), (part.shape, "bool")], attrs)

    whole = dropped(x, 0)
    for all_rows, some_rows in zip(whole, dropped(x[3:6], 3), strict=True):
        np.testing.assert_array_equal(all_rows[3:6], some_rows)
    assert (dropped(x, 0)[1] != dropped(x, 8)[1]).any()


def test_uniform_numbers_are_in_the_half_open_interval_and_exact_in_float32():
    u = uniform(stream(0, "test"), 100_000)
    assert u.min() >= 0
    assert u.max() < 1
    assert u.max().astype(np.float32) < 1
    np.testing.assert_array_equal(u, u.astype(np.float32))
    # Mean 1/2 and variance 1/12, within five standard errors.
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / len(u)) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / len(u)) ** 0.5
    counts = np.bincount((u * 16).astype(int), minlength=16)
    assert ((counts - len(u) / 16) ** 2 / (len(u) / 16)).sum() < 45  # chi square of 15 degrees: p about 1e-4


def test_normal_numbers():
    z = normal(stream(0, "test"), 100_001)
    assert z.shape == (100_001,)
    assert np.isfinite(z).all()
    for power, moment, error in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * (error / len(z)) ** 0.5
    assert abs((z < 1).mean() - 0.8413) < 0.01
    # Cosine and sine of one angle are independent of each other.
    assert abs(np.corrcoef(z[:-1:2], z[1::2])[0, 1]) < 0.02


def test_box_and_mullers_logarithm_never_meets_zero():
    """u = 0 gives radius 0; the largest u below 1 gives the largest number, about 5.8."""
    assert np.isfinite(np.log1p(-(1 - 2.0**-24)))
    assert abs(normal(stream(9, "test"), 1_000_000)).max() < 5.8


@given(st.integers(0, 300), st.integers(0, 3), st.integers(0, 5))
def test_a_permutation_is_one(size, seed, step):
    order = permutation(seed, "shuffle", size, step)
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    np.testing.assert_array_equal(order, permutation(seed, "shuffle", size, step))


def test_permutations_of_different_epochs_seeds_and_purposes_differ():
    orders = [
        permutation(*args) for args in ((0, "shuffle", 50), (0, "shuffle", 50, 1), (1, "shuffle", 50), (0, "split", 50))
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_every_position_is_equally_likely():
    landed = np.array([permutation(0, "shuffle", 5, step)[0] for step in range(2000)])
    counts = np.bincount(landed, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 24  # chi square of 4 degrees: p about 1e-4
