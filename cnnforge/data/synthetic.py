"""``synthetic``: blurred class patterns plus noise, made on the spot, for tests and timing."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.data.adapt import Picture
from cnnforge.data.chunks import chunks
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.resample import bilinear
from cnnforge.spec import SyntheticData

#: Patterns are grown from this many random numbers per side, which is what makes them smooth.
COARSE = 5
#: Grey level in the middle, and levels per unit of pattern or noise: three deviations stay inside 0 to 255.
MIDDLE, LEVELS = 128.0, 40.0
#: Deviation of a uniformly drawn byte.
BYTE_DEVIATION = ((256.0**2 - 1.0) / 12.0) ** 0.5


def read(data: SyntheticData, input: Picture, seed: int) -> Stored:
    """The same samples for the same seed; sample i does not depend on how many there are."""
    size = data.size or input
    patterns = _patterns(data.classes, size, seed)
    train, test = (
        _split(patterns, samples, data.noise, rng.stream(seed, "synthetic", part))
        for part, samples in (("train", data.samples), ("test", data.test_samples))
    )
    whole = sha256()
    for array in (train.x, train.y, test.x, test.y):
        whole.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return Stored(
        source=f"made from seed {seed}",
        digest=whole.hexdigest(),
        train=train,
        test=test,
        classes=data.classes,
        class_names=tuple(map(str, range(data.classes))),
    )


def _patterns(classes: int, size: Picture, seed: int) -> NDArray[np.float64]:
    """(classes, H, W, C) of mean 0 and deviation 1 each."""
    height, width, channels = size
    coarse = (min(COARSE, height), min(COARSE, width), channels)
    drawn = rng.normal(rng.stream(seed, "synthetic", "patterns"), classes * int(np.prod(coarse)))
    x = bilinear(coarse[:2], (height, width))(drawn.reshape(classes, *coarse))
    x -= x.mean(axis=(1, 2, 3), keepdims=True)
    deviation = x.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(x / np.where(deviation > 0, deviation, 1.0))


def _split(patterns: NDArray[np.float64], samples: int, noise: float, key: tuple[int, int]) -> Split:
    """Classes in turn; noise is uniform, which costs a quarter of a random word per pixel."""
    classes, *shape = patterns.shape
    pixels = int(np.prod(shape))
    x = np.empty((samples, *shape), np.uint8)
    y = np.arange(samples, dtype=np.int64) % classes
    for part in chunks(samples, patterns.shape[1:]):
        rows = np.arange(part.start, part.stop)
        drawn = rng.words(key, rows, -(-pixels // 4)).astype("<u4").view(np.uint8)[:, :pixels]
        e = (drawn.reshape(len(rows), *shape) - 127.5) / BYTE_DEVIATION
        value = MIDDLE + LEVELS * (patterns[y[rows]] + noise * e)
        x[rows] = np.clip(value + 0.5, 0.0, 255.0).astype(np.uint8)
    return Split(x, y)
