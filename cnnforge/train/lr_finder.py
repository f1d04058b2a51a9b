"""Which learning rates a net learns at: one short run over which the rate grows (Smith, WACV 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, log

from cnnforge.errors import DataError
from cnnforge.optim import Optimizer
from cnnforge.train.metrics import mean
from cnnforge.train.setup import Setup

#: Losses are averaged with this share of the past, as in fast.ai, whose course made the method known.
SMOOTHING = 0.9
#: The search ends where the averaged loss is so many times its smallest.
BLOWN = 4.0
#: Points of either end that say nothing of the slope: averages begin, losses explode.
SKIPPED = 5


@dataclass(frozen=True)
class Search:
    """rates, losses, smooth: of each step: learning rate, mean loss of its batch, and the running average.

    steepest: the rate at which the average falls fastest (by the logarithm of the rate): a good one to train with
    lowest:   the rate at which it is smallest: already too large
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    steepest: float
    lowest: float


def search(
    made: Setup, optimizer: Optimizer, least: float, most: float, steps: int, stopping: Callable[[], None]
) -> Search:
    """Train ``steps`` batches from the first weights on, the rate growing from ``least`` to ``most`` by equal factors.

    stopping: called before every step; raises where the search is to end
    Raises DataError where training diverges before there is anything to see.
    """
    rates: list[float] = []
    losses: list[float] = []
    smooth: list[float] = []
    running = 0.0
    epoch, drawn = 0, made.samples.epoch(0)
    for step in range(steps):
        stopping()
        within = step % made.samples.steps_per_epoch
        if step and not within:
            epoch += 1
            drawn = made.samples.epoch(epoch)
        n = made.samples.size(within)
        bound = made.train.bound(n)
        made.samples.fill(drawn, within, *bound.room)
        bound.send()
        rate = least * (most / least) ** (step / max(steps - 1, 1))
        made.train.set_step(
            step=step + 1, draw=step, first=0, lr=rate, inv_n=1.0 / n, scalars=optimizer.scalars(step + 1)
        )
        bound.run("forward", "loss")
        loss = mean(bound.read("loss"))
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        average = running / (1 - SMOOTHING ** (step + 1))
        if not isfinite(loss) or (smooth and average > BLOWN * min(smooth)):
            break
        rates.append(rate)
        losses.append(loss)
        smooth.append(average)
        bound.run("backward", "update")
    if len(rates) <= 2 * SKIPPED:
        raise DataError(
            f"the loss exploded after {len(rates)} of {steps} steps: there is no slope to look at",
            where="cnnforge lr",
            why=f"the learning rate began at {least:g} and had reached {rates[-1] if rates else least:g}",
            fix=f"begin lower: --from {least / 100:g}",
        )
    return Search(tuple(rates), tuple(losses), tuple(smooth), *_suggested(rates, smooth))


def _suggested(rates: list[float], smooth: list[float]) -> tuple[float, float]:
    """(steepest, lowest) of the middle: differences of the averaged loss over log(rate), a tenth of the search wide."""
    low = min(range(SKIPPED, len(smooth)), key=smooth.__getitem__)
    half = max(1, len(smooth) // 20)

    def slope(i: int) -> float:
        return (smooth[i + half] - smooth[i - half]) / (log(rates[i + half]) - log(rates[i - half]))

    middle = range(SKIPPED + half, min(low, len(smooth) - half - 1) + 1)
    return rates[min(middle, key=slope, default=low)], rates[low]
