"""Running sums over samples, from which every reported mean is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Sums:
    """Loss and hits summed over ``samples``. In float64, in the order of the steps, so resuming continues exactly."""

    loss: float = 0.0
    hits: float = 0.0
    samples: int = 0

    def add(self, loss: Any, hits: Any) -> None:
        """Add one batch's per-sample losses and hits, (n,) each."""
        self.loss += float(loss.sum(dtype="float64"))
        self.hits += float(hits.sum(dtype="float64"))
        self.samples += len(loss)

    def join(self, other: Sums) -> None:
        """Add what another has summed."""
        self.loss += other.loss
        self.hits += other.hits
        self.samples += other.samples

    def means(self, prefix: str, scores_hits: bool) -> dict[str, float]:
        """``{prefix}_loss`` and, for a classifier, ``{prefix}_accuracy``; empty where nothing was summed."""
        if not self.samples:
            return {}
        means = {f"{prefix}_loss": self.loss / self.samples}
        return means | {f"{prefix}_accuracy": self.hits / self.samples} if scores_hits else means


def mean(loss: Any) -> float:
    """A batch's mean of its per-sample losses, (n,), in float64."""
    return float(loss.sum(dtype="float64")) / len(loss)
