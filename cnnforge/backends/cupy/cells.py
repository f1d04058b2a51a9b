"""How kernels of ``source/cells.cuh`` are launched: by cells of a matrix, by rows, and sums of columns in two steps.

All sizes of grids depend on shapes alone, so sums are added up in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from cnnforge.backends.base import Array, Step
from cnnforge.backends.cupy.device import MOST_BLOCKS, Device, Queued, chain
from cnnforge.backends.cupy.signature import wide
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch

#: Threads of a block at most: MOST_THREADS of ``cells.cuh``.
THREADS = 256
#: Neighbouring columns that a block works on at most.
COLUMNS = 32
#: Rows that a thread adds up before there are more blocks, and blocks at most of one sum.
ROWS, SUM_BLOCKS = 8, 1024
#: What a row's or a block's number may be in a kernel.
MOST_ROWS = (1 << 31) - (1 << 25)


def ceil_power(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns): a row per position, a column per channel. Raises ValueError where there are too many rows."""
    rows, columns = prod(shape[:-1]), shape[-1]
    if rows > MOST_ROWS:
        raise ValueError(f"{rows} positions are more than a kernel counts, {MOST_ROWS}")
    return rows, columns


def _block(rows: int, columns: int) -> tuple[int, int]:
    width = min(COLUMNS, ceil_power(columns))
    return width, min(THREADS // width, ceil_power(rows))


def cells(device: Device, source: str, kernel: str, rows: int, columns: int, args: Sequence[Any]) -> Queued:
    """A kernel that goes through a matrix by ``EACH_CELL``."""
    width, height = _block(rows, columns)
    grid = max(1, -(-columns // width)), max(1, min(-(-rows // height), MOST_BLOCKS))
    return device.launch(source, kernel, grid, (width, height), args)


def by_row(device: Device, source: str, kernel: str, rows: int, columns: int, args: Sequence[Any]) -> Queued:
    """A kernel whose threads share a row each by ``ROW``."""
    width = min(THREADS, ceil_power(columns))
    height = min(THREADS // width, ceil_power(rows))
    return device.launch(source, kernel, (max(1, -(-rows // height)),), (width, height), args)


def parts_of(rows: int, columns: int, samples: int = 1) -> int:
    """How many sums a column of a sample is first cut into."""
    width, height = _block(rows, columns)
    blocks = samples * -(-columns // width)
    return max(1, min(-(-rows // (height * ROWS)), SUM_BLOCKS // blocks))


def sum_scratch(v: Value, planes: int = 1, samples: int = 0) -> tuple[Scratch, ...]:
    """Workspace of sums of the columns of ``v``, of ``planes`` numbers at a time; of each sample, where given."""
    rows, columns = matrix(v.shape[1:] if samples else v.shape)
    parts = parts_of(rows, columns)
    if samples:  # fewer of them, of a last batch, may be cut into more parts each, but not into more than SUM_BLOCKS
        parts = min(samples * parts, max(1, SUM_BLOCKS // -(-columns // _block(rows, columns)[0])))
    return (Scratch((planes * parts * columns,), wide(v.dtype), False),)


def sums(
    device: Device, source: str, kernel: str, rows: int, columns: int, args: Sequence[Any], samples: int = 1
) -> Queued:
    """The first step of sums of columns: a kernel of ``parts_of`` blocks for each block of columns of a sample."""
    width, height = _block(rows, columns)
    grid = samples * -(-columns // width), parts_of(rows, columns, samples)
    return device.launch(source, kernel, grid, (width, height), args)


def finish(
    device: Device, source: str, kernel: str, parts: int, columns: int, args: Sequence[Any], samples: int = 1
) -> Queued:
    """The second step: a kernel whose threads of one threadIdx.x share the parts of a column."""
    width, height = _block(parts, columns)
    return device.launch(source, kernel, (-(-columns // width), samples), (width, height), args)


def column_sums(
    device: Device,
    source: str,
    kernel: str,
    ins: Sequence[Array],
    out: Array,
    scratch: Array,
    shape: tuple[int, ...],
    more: Sequence[Any] = (),
    samples: int = 1,
    at_once: str = "",
) -> Step:
    """A kernel of ``COLUMN_SUM(…)`` with parameters (*ins, partial, rows, columns, *more), and the second step.

    shape: of one sample, where there are ``samples`` of them. out: (samples, C), of P; of T where ``at_once`` names
    the kernel that writes it when there is one part
    """
    rows, columns = matrix(shape)
    parts = parts_of(rows, columns, samples)
    if parts == 1:
        return sums(device, source, at_once or kernel, rows, columns, (*ins, out, rows, columns, *more), samples)
    assert scratch.size >= samples * parts * columns, f"{kernel} has too little workspace"
    return chain(
        (
            sums(device, source, kernel, rows, columns, (*ins, scratch, rows, columns, *more), samples),
            finish(
                device,
                "sums",
                "add_parts_to_t" if at_once else "add_parts",
                parts,
                columns,
                (scratch, out, parts, columns),
                samples,
            ),
        )
    )


def constant(device: Device, values: Sequence[float], dtype: str) -> Array:
    """Numbers that never change, in memory of their own."""
    itemsize = 4 if dtype.endswith("32") else 8
    array = device.view(device.zeros(itemsize * len(values)), 0, (len(values),), dtype)
    device.put(list(values), array)
    return array
