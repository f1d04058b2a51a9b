"""Kernels that compile in no time, where other processes can import them."""

from cnnforge.backends.numba.language import carray
from cnnforge.backends.numba.signature import Kernel, longs


def adding(n: int) -> Kernel:
    """Adds ``n`` to every element: as many kernels as there are numbers, of one name."""

    @Kernel
    def add(block: int, lo: int, hi: int, thread: int) -> None:
        a = carray(longs(block), (2,))
        x = carray(longs(a[0]), (a[1],))
        for i in range(lo, hi):
            x[i] += n

    return add


ADDING = [adding(n) for n in range(4)]
