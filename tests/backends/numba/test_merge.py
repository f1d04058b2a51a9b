"""Merging at sizes with several vectors and edges, against the numpy backend."""

import numpy as np
import pytest

from tests import one_node

CHANNELS = [1, 6, 16, 23, 64, 149]


def integers(*shape):
    """Whole numbers, of which sums and products are exact."""
    return np.random.default_rng(len(shape)).integers(-4, 5, shape).astype(np.float32)


def same(op, ins, shape, attrs):
    found, expected = (one_node.run(op, ins, [(shape, "float32")], attrs, b)[0] for b in ("numba", "numpy"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [[3, 1], [16, 32, 64], [64, 7, 24, 100], [1, 1], [150]])
def test_concat(channels):
    front = (3, 5, 7)
    same("concat", [integers(*front, c) for c in channels], (*front, sum(channels)), {})
    same("concat", [integers(9, c) for c in channels], (9, sum(channels)), {})


@pytest.mark.parametrize(("channels", "start", "size"), [(5, 2, 1), (64, 16, 32), (150, 3, 147), (149, 0, 149)])
def test_slice_channels(channels, start, size):
    same("slice_channels", [integers(3, 5, 7, channels)], (3, 5, 7, size), {"start": start})


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (2, 3), (1, 1)])
@pytest.mark.parametrize("c", CHANNELS)
def test_shortcut_pad(c, size, stride):
    shape = (3, *size, c)
    for more in (0, c, 3):
        out = (3, *(-(-n // s) for n, s in zip(size, stride, strict=True)), c + more)
        same("shortcut_pad", [integers(*shape)], out, {"stride": stride})
        same("shortcut_pad_dx", [integers(*out)], shape, {"stride": stride})


@pytest.mark.parametrize(("groups", "size"), [(2, 29), (3, 80), (8, 4), (1, 7), (7, 1)])
def test_channel_shuffle(groups, size):
    shape = (3, 5, 7, groups * size)
    same("channel_shuffle", [integers(*shape)], shape, {"groups": groups})


@pytest.mark.parametrize("shape", [(3, 9, 8), (1, 20, 21), (7, 1, 1)], ids=str)
@pytest.mark.parametrize("c", CHANNELS)
def test_scale_channels(c, shape):
    x, dy, gate = integers(*shape, c), integers(*shape, c) + 1, integers(shape[0], 1, 1, c)
    same("scale_channels", [x, gate], x.shape, {})
    same("scale_channels_dgate", [x, dy], gate.shape, {})
