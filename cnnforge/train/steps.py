"""The updates of a run: what each is made of, and what to say of one whose loss is not a finite number."""

from __future__ import annotations

from math import isfinite, nan

from cnnforge.data.ahead import Source
from cnnforge.errors import DivergedError
from cnnforge.executable import Bound, Executable
from cnnforge.train.diagnosis import Finding, locate
from cnnforge.train.losses import losses_of
from cnnforge.train.metrics import Sums
from cnnforge.train.ranks import Ranks
from cnnforge.train.recipe import Progress, Recipe, Watcher


class Steps:
    """All below is of the update that comes next by ``progress``.

    losses: those of the epoch so far
    """

    def __init__(
        self, train: Executable, samples: Source, recipe: Recipe, watcher: Watcher, progress: Progress, ranks: Ranks
    ) -> None:
        self._train, self._samples, self._recipe, self._watcher = train, samples, recipe, watcher
        self._progress, self._ranks = progress, ranks
        self._per_epoch = samples.steps_per_epoch
        self.updates, self.total = recipe.updates(self._per_epoch), recipe.steps(self._per_epoch)
        self.losses = losses_of(train, ranks)
        self.losses.begin(progress.sums)

    def members(self) -> range:
        """Its batches, counted in the epoch."""
        first = self._progress.step_in_epoch
        return range(first, min(first + self._recipe.accumulate, self._per_epoch))

    def lr(self) -> float:
        """The learning rate."""
        rate = self._recipe.schedule.rate(self._progress.step, self.total, self.updates)
        return self._recipe.optimizer.lr * rate * self._progress.course.scale

    def forward(self, bound: Bound, step: int, number: int, n: int) -> None:
        """Batch ``step``, the ``number``-th from 0 of an update of ``n`` samples, from its room up to the loss."""
        recipe, done = self._recipe, self._progress.step
        bound.send()
        self._train.set_step(
            step=done + 1,
            draw=done * recipe.accumulate + number,
            first=self._samples.shard(step).start,
            lr=self.lr(),
            inv_n=1.0 / n,
            scalars=recipe.optimizer.scalars(done + 1),
            keep=recipe.averaging.keep(done + 1, self.total) if recipe.averaging else 0.0,
        )
        bound.run("forward", "loss")

    def settle(self) -> None:
        """Have the sums of ``progress`` right.

        Raises DivergedError where a loss was not finite since the last time, with ``progress`` before its update.
        """
        if stopped := self.losses.settle(self._progress.sums):
            self._go_back(stopped)
            bound, step, loss = self._again()
            raise self.gave_up(bound, step, loss, whole=True)

    def gave_up(self, bound: Bound, step: int, loss: float, whole: bool) -> DivergedError:
        """What to raise for batch ``step``, which is in ``bound`` and has this mean loss.

        whole: is nothing gathered yet of the update, so that a checkpoint is one of whole updates?
        """
        rows = self._samples.rows(self._progress.epoch, step)
        found = locate(self._train, bound, rows, self._recipe.layers)
        found = self._ranks.earliest(found, found.place if found else 0)
        if whole and (found is None or found.intact):
            self._watcher.interrupted(self._progress)
        return self._ranks.together(diverged(loss, self._progress.step + 1, self.lr(), found))

    def _go_back(self, update: int) -> None:
        """To where this one of the same epoch began: it was not made, nor was any after it."""
        progress = self._progress
        before = -(-progress.step_in_epoch // self._recipe.accumulate) - (progress.step - update + 1)
        progress.step, progress.step_in_epoch = update - 1, before * self._recipe.accumulate
        progress.sums.samples = sum(map(self._samples.size, range(progress.step_in_epoch)))

    def _again(self) -> tuple[Bound, int, float]:
        """Run its batches forward, up to the one whose loss is not finite: where it is bound, its step, its loss.

        A batch follows from its place and the weights are as they were, so it comes to the same. What the device has
        added of those before it, where an update has several, is taken away again, to rounding.
        """
        drawn, members = self._samples.epoch(self._progress.epoch), self.members()
        n, sums = sum(map(self._samples.size, members)), self._progress.sums
        for number, step in enumerate(members):
            bound = self._train.bound(self._samples.size(step))
            self._samples.fill(drawn, step, *bound.room)
            self.forward(bound, step, number, n)
            part = Sums()
            part.add(bound.read("loss"), bound.read("hits"))
            if not isfinite(part.loss):
                return bound, step, part.loss / part.samples
            sums.loss, sums.hits = sums.loss - part.loss, sums.hits - part.hits
        return bound, step, nan


def diverged(loss: float, step: int, lr: float, found: Finding | None = None) -> DivergedError:
    """The error for a loss that is not a finite number."""
    why = f"{found}; the learning rate is {lr:g}" if found else f"the learning rate is {lr:g}"
    fix = f"a smaller learning rate, e.g. optimizer.lr={lr / 10:g}"
    if found is not None and found.layer == "data":
        fix = "look at these samples, or leave them out"
    return DivergedError(f"training diverged: the loss is {loss} at step {step}", why=why, fix=fix)
