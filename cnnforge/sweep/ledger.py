"""What a driver knows of all trials of its sweep: its own, those of earlier lives, and those of drivers elsewhere."""

from __future__ import annotations

from cnnforge.sweep.points import Point
from cnnforge.sweep.presence import Presence
from cnnforge.sweep.study import Known, Study
from cnnforge.sweep.trials import Outcome, Trial


class Ledger:
    """Keeps ``outcome.trials`` up to date with the storage.

    known: the storage's entries of the trials that this driver has begun, by number
    orphans: trials that were begun by drivers that are dead, and are this driver's now
    """

    def __init__(self, outcome: Outcome, study: Study, me: Presence) -> None:
        self._outcome, self._study, self._me = outcome, study, me
        checked = outcome.checked
        self._points = {point.number: point for point in (*checked.points, *checked.dropped) if checked.points}
        self.known: dict[int, Known] = {}
        self.orphans: list[Known] = []

    def begin(self, retry: bool) -> None:
        """What was before. retry: trials that failed are tried again."""
        checked = self._outcome.checked
        if checked.points:
            for point in (*checked.points, *checked.dropped):
                self._outcome.trials[point.number] = Trial(point, "waiting" if point.feasible else "dropped")
        if retry:
            latest = {one.number: one for one in self._study.trials()}
            for one in latest.values():
                if one.over and one.about.get("state") == "failed":
                    self._study.again(one)
        self.look(adopt=True)

    def look(self, adopt: bool) -> None:
        """Take what others have done since. adopt: and over what drivers have left that are dead."""
        latest = {one.number: one for one in self._study.trials()}
        ours = {one.id for one in (*self.known.values(), *self.orphans)}
        for one in latest.values():
            if one.id in ours:
                continue
            if one.over:
                self._take(one)
            elif one.claimed and (one.free or self._me.is_dead(one.owner, self._study)):
                mine = self._study.take_over(one, self._me.name) if adopt else None
                if mine is not None:
                    self.trial(mine).state = "waiting"
                    self.orphans.append(mine)
            elif one.claimed and one.number in self._outcome.trials:
                self._outcome.trials[one.number].state = "running"

    def trial(self, one: Known) -> Trial:
        """The trial of an entry."""
        trial = self._outcome.trials.get(one.number)
        if trial is None:
            trial = self._outcome.trials[one.number] = Trial(self._point(one))
        return trial

    def let_go(self) -> None:
        """This driver ends: what it has begun and not ended is anybody's."""
        for one in (*self.known.values(), *self.orphans):
            if not self._outcome.trials[one.number].over:
                self._study.let_go(one, self._me.name)
        self._me.leave(self._study)

    def _take(self, one: Known) -> None:
        """A trial that is over, perhaps by another driver's work."""
        trial = self.trial(one)
        about = one.about
        trial.state, trial.result = about["state"], dict(about.get("result", {}))
        trial.error, trial.code = about.get("error"), about.get("code", 1)

    def _point(self, one: Known) -> Point:
        return self._points.get(one.number) or self._outcome.checked.resolve(one.values, one.number)
