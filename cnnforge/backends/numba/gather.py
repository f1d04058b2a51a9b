"""From stored pictures to a batch of network input in one pass: pick, move, normalise, repeat the channel.

The range is the samples of the batch. The caller runs it whole, on a thread of its own and without Python's lock.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from cnnforge.backends.base import Gather
from cnnforge.backends.numba.language import carray, intrinsic, types
from cnnforge.backends.numba.signature import Kernel, bytes_at, ints, longs
from cnnforge.backends.numba.vectors import (
    BYTE,
    INT,
    INTS,
    LANES,
    WIDTH,
    Lanes,
    called,
    lanes,
    octets,
    pointer,
    put,
    put_some,
    real,
    some_octets,
)

#: How many samples ahead of its use a picture is asked for from memory.
AHEAD = 3
#: Bytes that come from memory together.
LINE = 64


@intrinsic
def fetch(typing_context: Any, address: Any) -> Any:
    """Ask for what lies at ``address``, to be read soon."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        reading, soon, data = ir.Constant(INT, 0), ir.Constant(INT, 3), ir.Constant(INT, 1)
        called(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer(builder, arguments[0], BYTE), reading, soon, data])
        return context.get_dummy_value()

    return types.void(types.intp), generate


def _tripled(part: int) -> Any:
    @intrinsic
    def tripled(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes_of = [(part * LANES + lane) // 3 for lane in range(LANES)]
            return builder.shuffle_vector(arguments[0], arguments[0], ir.Constant(INTS, lanes_of))

        return Lanes(Lanes), generate

    return tripled


#: Each lane three times: the three vectors that this gives.
first_third, second_third, last_third = (_tripled(part) for part in range(3))


@Kernel
def _gather(block: int, lo: int, hi: int, thread: int) -> None:
    """out[i] = (moved(x[rows[i]]) - mean) * factor, each number three times where a single channel becomes three.

    x: (n, H, W c) bytes, rows: (N,) int64, picks: (N, 2) int32 or none, down: (R, H), across: (K, W c) int32,
    mean, factor: c numbers in turn, as many as a vector may reach -> out: (N, H, W c times) float32

    A difference and a product, each rounded, as NumPy does it: to the bit. The pictures of a batch lie all over the
    data set, so that waiting for memory takes most of the time unless they are asked for in advance (MNIST as 32x32x3,
    64 samples: 18 microseconds without, 10 with). Moved bytes go through a picture's workspace, one by one.
    """
    a = carray(longs(block), (14,))
    x, row_list, picks, down, across, workspace, mean, factor, out = (
        a[0],
        a[1],
        a[2],
        a[3],
        a[4],
        a[5],
        a[6],
        a[7],
        a[8],
    )
    height, row, channels, times = a[9], a[10], a[11], a[12]
    size = height * row
    rows = carray(longs(row_list), (hi,))
    turn = LANES % channels
    for i in range(lo, hi):
        source = x + rows[i] * size
        if i + AHEAD < hi:
            following = x + rows[i + AHEAD] * size
            for at in range(0, size, LINE):
                fetch(following + at)
        if picks != 0:
            pick = carray(ints(picks), (hi, 2))[i]
            from_rows = carray(ints(down + 4 * height * pick[0]), (height,))
            from_columns = carray(ints(across + 4 * row * pick[1]), (row,))
            before, moved = carray(bytes_at(source), (size,)), carray(bytes_at(workspace), (size,))
            for h in range(height):
                start = from_rows[h] * row
                for k in range(row):
                    if start < 0 or from_columns[k] < 0:
                        moved[h * row + k] = 0
                    else:
                        moved[h * row + k] = before[start + from_columns[k]]
            source = workspace
        to = out + 4 * size * times * i
        phase = 0
        whole = size - size % LANES
        for k in range(0, whole, LANES):
            v = (real(octets(source + k)) - lanes(mean + 4 * phase)) * lanes(factor + 4 * phase)
            if times == 1:
                put(to, v)
                to += WIDTH
            else:
                put(to, first_third(v))
                put(to + WIDTH, second_third(v))
                put(to + 2 * WIDTH, last_third(v))
                to += 3 * WIDTH
            phase += turn
            if phase >= channels:
                phase -= channels
        if whole < size:
            left = size - whole
            v = (real(some_octets(source + whole, left)) - lanes(mean + 4 * phase)) * lanes(factor + 4 * phase)
            if times == 1:
                put_some(to, v, left)
            else:
                put_some(to, first_third(v), 3 * left)
                put_some(to + WIDTH, second_third(v), 3 * left - LANES)
                put_some(to + 2 * WIDTH, last_third(v), 3 * left - 2 * LANES)


#: What a batch may need compiled.
KERNELS = (_gather,)

_Function = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_ssize_t, ctypes.c_ssize_t)


class CompiledGather:
    """``Backend.gather`` bound to a data set. Its workspace serves one thread at a time."""

    def __init__(
        self,
        x: NDArray[np.uint8],
        mean: NDArray[np.float32],
        factor: NDArray[np.float32],
        channels: int,
        down: NDArray[np.int32],
        across: NDArray[np.int32],
    ) -> None:
        _, height, width, c = x.shape
        # Columns of pixels become columns of bytes; what is negative stands for black and stays so.
        bytes_across = np.where(across[:, :, None] < 0, -1, across[:, :, None] * c + np.arange(c)).astype(np.int32)
        in_turn = np.arange(c + LANES) % c
        workspace = np.empty(height * width * c, np.uint8)
        self._kept = (x, np.ascontiguousarray(down), bytes_across, workspace, mean[in_turn], factor[in_turn])
        at = [array.ctypes.data for array in self._kept]
        self._input = (height, width, channels)
        self._block = np.array([at[0], 0, 0, *at[1:], 0, height, width * c, c, channels // c], np.int64)
        self._at = self._block.ctypes.data
        self._run = _Function(_gather.address)

    def __call__(self, rows: NDArray[np.int64], picks: NDArray[np.int32] | None, out: NDArray[np.float32]) -> None:
        n = len(rows)
        given = (rows, out) if picks is None else (rows, out, picks)
        assert all(array.flags.c_contiguous for array in given), "kernels take arrays as they lie"
        assert (str(rows.dtype), str(out.dtype), out.shape) == ("int64", "float32", (n, *self._input))
        assert picks is None or (str(picks.dtype), picks.shape) == ("int32", (n, 2))
        self._block[1], self._block[8] = rows.ctypes.data, out.ctypes.data
        self._block[2] = 0 if picks is None else picks.ctypes.data
        self._run(self._at, 0, n, 0)


def bind_gather(
    x: NDArray[Any],
    mean: NDArray[np.float32],
    factor: NDArray[np.float32],
    channels: int,
    down: NDArray[np.int32],
    across: NDArray[np.int32],
) -> Gather | None:
    """As ``Backend.gather``: for bytes whose channels are as many as the input's, or one that becomes three."""
    if x.dtype != np.uint8 or not x.flags.c_contiguous or x.size == 0 or channels not in (x.shape[3], 3 * x.shape[3]):
        return None
    if channels == 3 * x.shape[3] and x.shape[3] != 1:
        return None
    return CompiledGather(x, mean, factor, channels, down, across)
