"""Which of a data set's pictures stay in a device's memory, where it makes batches itself."""

from __future__ import annotations

from collections.abc import Sequence

from cnnforge.backends.base import Backend, Stock
from cnnforge.data import Split

#: Pictures stay in the device's memory as long as all that do take no more than this share of what is free.
SHARE = 0.25


def stocked(
    backend: Backend, splits: Sequence[Split], batch: int, canvases: Sequence[int], taken: int, dtype: str
) -> tuple[list[Stock | None], str]:
    """Each split's pictures as ``backend`` keeps them, None where the host makes its batches; and a note, or nothing.

    The first splits come first to stay. Nothing is allocated yet.

    batch: samples of the largest one;  canvases: how many each split has;  taken: bytes that plans will take
    dtype: of the batches: devices make float32
    """
    if dtype != "float32":
        return [None] * len(splits), ""
    free = backend.free() or 0
    copies = sum(n * batch * (split.x.nbytes // max(len(split), 1)) for split, n in zip(splits, canvases, strict=True))
    left, sent = min(int(SHARE * free), free - taken - copies), 0
    found: list[Stock | None] = []
    for split in splits:
        stays = split.x.nbytes <= left
        stock = backend.stock(split.x, batch, stays)
        found.append(stock)
        if stock is not None:
            left, sent = (left - split.x.nbytes, sent) if stays else (left, sent + split.x.nbytes)
    if not sent:
        return found, ""
    return found, (
        f"{sent / 2**20:,.0f} MiB of pictures go to the GPU batch by batch: they take more than {SHARE:.0%} of its "
        "free memory, or of what the network leaves"
    )
