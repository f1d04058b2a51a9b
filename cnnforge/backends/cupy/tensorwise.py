"""Updates of the flat parameter buffer that see each tensor by itself: LAMB needs lengths, Muon matrix products.

params, grads, slots: (P,), the tensors of one range side by side; ``rate`` is the range's factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from cnnforge.backends.base import Step
from cnnforge.backends.cupy.cells import THREADS, constant
from cnnforge.backends.cupy.device import Arrays, Device, DeviceKernel, ScratchRule, chain, cut, each
from cnnforge.backends.cupy.linear import product
from cnnforge.backends.cupy.optimizer import square_parts, squares
from cnnforge.ir.op import Scratch

SOURCE = "tensorwise"

#: Elements that one block of LAMB works on.
PIECE = 1 << 13


def _starts(sizes: Sequence[int], total: int) -> list[int]:
    """Where each tensor begins. Raises ValueError where they do not add up to the buffer."""
    if sum(sizes) != total:
        raise ValueError(f"tensors of {sizes} elements do not fill {total}")
    return [0, *accumulate(sizes)][:-1]


def _piece_counts(sizes: Sequence[int]) -> list[int]:
    return [-(-size // PIECE) for size in sizes]


def lamb(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    sizes: tuple[int, ...],
    rate: float = 1.0,
) -> Step:
    """Adam's step and the decay, scaled to each tensor's length: moments and lengths, then trust, then the step."""
    ((params, grads, block, mean, square), kept), (partial, trust) = cut(ins, 5), scratch
    table: list[int] = []
    for tensor, (start, size) in enumerate(zip(_starts(sizes, params.size), sizes, strict=True)):
        for low in range(start, start + size, PIECE):
            table += low, min(low + PIECE, start + size), tensor
    pieces = constant(device, table, "int64")
    firsts = constant(device, [0, *accumulate(_piece_counts(sizes))], "int64")
    n = len(table) // 3
    factors = 1 - beta1, beta2, 1 - beta2, epsilon, weight_decay
    moments = params, grads, block, mean, square, pieces, partial, *factors, kept
    update = params, block, mean, square, pieces, trust, rate, epsilon, weight_decay, kept
    return chain(
        (
            device.launch(SOURCE, "lamb_moments", (n,), (THREADS,), moments),
            each(device, SOURCE, "lamb_trust", len(sizes), (partial, firsts, trust, len(sizes), n)),
            device.launch(SOURCE, "lamb_update", (n,), (THREADS,), update),
        )
    )


def muon(
    device: Device,
    ins: Arrays,
    outs: Arrays,
    scratch: Arrays,
    *,
    momentum: float,
    nesterov: bool,
    coefficients: tuple[float, float, float],
    steps: int,
    epsilon: float,
    weight_decay: float,
    matrices: tuple[tuple[int, int], ...],
    factors: tuple[float, ...],
    rate: float = 1.0,
) -> Step:
    """A running mean of gradients, made nearly orthogonal by Newton-Schulz steps on the shorter side's squares."""
    (params, grads, block, means), kept = cut(ins, 4)
    *spaces, partial, length = scratch
    a, b, c = coefficients
    run: list[Step] = []
    starts = _starts([m * n for m, n in matrices], params.size)
    for (m, n), factor, start in zip(matrices, factors, starts, strict=True):
        size, side = m * n, min(m, n)
        p, g, mean = (array[start : start + size] for array in (params, grads, means))
        x, y = (space[:size] for space in spaces[:2])
        gram, square = (space[: side * side].reshape(side, side) for space in spaces[2:])
        run += (
            each(device, SOURCE, "muon_mean", size, (g, block, mean, x, size, 1 - momentum, int(nesterov), kept)),
            squares(device, x, partial),
            device.launch(SOURCE, "muon_length", (1,), (THREADS,), (partial, length, square_parts(size), epsilon)),
            each(device, SOURCE, "divide_by", size, (x, length, size)),
        )
        for _ in range(steps):
            old, new, wide = x.reshape(m, n), y.reshape(m, n), m <= n
            ours = (gram, old) if wide else (old, gram)
            run += (
                product(device, old, old, gram, turn_a=not wide, turn_b=wide),
                product(device, gram, gram, square),
                each(device, SOURCE, "combine", side * side, (square, gram, side * side, c, b)),
                product(device, *ours, new),
                each(device, SOURCE, "combine", size, (x, y, size, a, 1.0)),
            )
            x, y = y, x
        run.append(each(device, SOURCE, "muon_update", size, (p, block, x, size, rate, weight_decay, factor, kept)))
    return chain(run)


def _muon_scratch(matrices: Sequence[tuple[int, int]], dtype: str) -> tuple[Scratch, ...]:
    """Two of the largest matrix, two of the largest square of a shorter side, sums of squares, a length."""
    whole, square = max(m * n for m, n in matrices), max(min(m, n) ** 2 for m, n in matrices)
    return tuple(Scratch((size,), dtype, False) for size in (whole, whole, square, square, square_parts(whole), 1))


KERNELS: dict[str, DeviceKernel] = {"lamb": lamb, "muon": muon}

SCRATCH: dict[str, ScratchRule] = {
    "lamb": lambda i, o, a: (
        Scratch((2 * sum(_piece_counts(a["sizes"])),), i[0].dtype, False),
        Scratch((len(a["sizes"]),), i[0].dtype, False),
    ),
    "muon": lambda i, o, a: _muon_scratch(a["matrices"], i[0].dtype),
}
