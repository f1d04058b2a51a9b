"""How fast a training goes."""

from __future__ import annotations

from time import perf_counter


class Clock:
    """Samples per second and the share of waiting for them, without the time that validation and checkpoints take."""

    def __init__(self) -> None:
        self.skip()

    def skip(self) -> None:
        """What happened since the last batch was not training."""
        self._mark = self._epoch_mark = perf_counter()
        self._samples = self._epoch_samples = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """So long it took to get a batch."""
        self._waited += seconds

    def count(self, samples: int) -> None:
        """One more batch is done."""
        self._samples += samples
        self._epoch_samples += samples

    def rate(self) -> float:
        """Samples per second since the last call."""
        now = perf_counter()
        rate = self._samples / max(now - self._mark, 1e-9)
        self._mark, self._samples = now, 0
        return rate

    def of_epoch(self) -> dict[str, float]:
        """``samples_per_second``, and ``data_wait``: the share of the time that went into getting batches."""
        seconds = max(perf_counter() - self._epoch_mark, 1e-9)
        return {"samples_per_second": self._epoch_samples / seconds, "data_wait": self._waited / seconds}
