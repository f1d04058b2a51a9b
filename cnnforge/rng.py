"""Random numbers as a pure function of their coordinates.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written down to the
bit so that every backend, rank and resumed run draws the same numbers. There is no generator state to save:

- key:     the first 8 bytes of SHA-256 of ``"{seed}:{purpose}:{name}"``, as two little-endian uint32 words.
  ``purpose`` is what the numbers are for (``init``, ``dropout``, ``shuffle``, …), ``name`` the parameter's or
  layer's name, so an edited net keeps the draws of the layers that stayed.
- counter: ``(element // 4, sample, step low word, step high word)``; the element's word is ``element % 4``.
  ``sample`` is the index in the *global* batch or the data set, so ranks and batch sizes agree.

A word ``u`` becomes a float in [0, 1) as ``(u >> 8) * 2**-24``: exact in float32, never 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

M0, M1 = 0xD2511F53, 0xCD9E8D57  # round multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # key increments
ROUNDS = 10
WORD = 0xFFFFFFFF


def stream(seed: int, purpose: str, name: str = "") -> tuple[int, int]:
    """The key of one stream of numbers: two uint32 words."""
    from hashlib import sha256

    digest = sha256(f"{seed}:{purpose}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block on plain ints: the definition that every vectorised or compiled version is tested against."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD
    return c0, c1, c2, c3


def philox_rounds(words: NDArray[Any], key: tuple[int, int], scratch: NDArray[Any]) -> None:
    """Run the ten rounds in place, without allocating.

    words:   (4, …) uint64, each holding one 32-bit counter word; becomes the output words
    scratch: (3, …) uint64
    """
    import numpy as np

    c0, c1, c2, c3 = words
    p0, p1, t = scratch
    k0, k1 = key
    for _ in range(ROUNDS):
        np.multiply(c0, M0, out=p0)
        np.multiply(c2, M1, out=p1)
        np.right_shift(p1, 32, out=t)
        np.bitwise_xor(t, c1, out=t)
        np.bitwise_xor(t, k0, out=c0)
        np.bitwise_and(p1, WORD, out=c1)
        np.right_shift(p0, 32, out=t)
        np.bitwise_xor(t, c3, out=t)
        np.bitwise_xor(t, k1, out=c2)
        np.bitwise_and(p0, WORD, out=c3)
        k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD


def words(key: tuple[int, int], samples: NDArray[Any], elements: int, step: int = 0) -> NDArray[Any]:
    """(len(samples), elements) uint32: the stream's words for these sample indices at one step."""
    import numpy as np

    samples = np.asarray(samples, np.uint64)
    blocks = -(-elements // 4)
    counter = np.empty((4, len(samples), blocks), np.uint64)
    counter[0] = np.arange(blocks, dtype=np.uint64)
    counter[1] = (samples & np.uint64(WORD))[:, None]
    counter[2], counter[3] = step & WORD, step >> 32
    philox_rounds(counter, key, np.empty((3, len(samples), blocks), np.uint64))
    out = counter.transpose(1, 2, 0).reshape(len(samples), 4 * blocks)
    return np.ascontiguousarray(out[:, :elements]).astype(np.uint32)


def uniform(key: tuple[int, int], size: int, step: int = 0) -> NDArray[Any]:
    """(size,) float64 in [0, 1), 24 random bits each."""
    import numpy as np

    drawn: NDArray[Any] = words(key, np.zeros(1), size, step)[0] >> 8
    return drawn * 2.0**-24


def normal(key: tuple[int, int], size: int, step: int = 0) -> NDArray[Any]:
    """(size,) float64 of mean 0, variance 1, by Box and Muller (1958) on consecutive pairs of uniforms."""
    import numpy as np

    u = uniform(key, size + size % 2, step).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, 0]))
    angle = 2.0 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:size]


def permutation(seed: int, purpose: str, size: int, step: int = 0) -> NDArray[Any]:
    """(size,) int64: a shuffled ``range(size)``, by sorting 64 random bits per index."""
    import numpy as np

    drawn = words(stream(seed, purpose), np.arange(size), 2, step).astype(np.uint64)
    keys: NDArray[Any] = drawn[:, 0] << np.uint64(32) | drawn[:, 1]
    return keys.argsort(kind="stable")
