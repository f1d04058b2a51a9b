"""Which drivers are taken for dead, and that one alone takes over what they left. No test waits: the clock is ours."""

from pathlib import Path

import pytest

from cnnforge.config import compose_sweep
from cnnforge.errors import InterruptedRun
from cnnforge.sweep import presence, study
from cnnforge.sweep.check import checked
from cnnforge.sweep.ledger import Ledger
from cnnforge.sweep.presence import SIGN_EVERY, SILENT, present
from cnnforge.sweep.study import Study
from cnnforge.sweep.trials import Outcome
from tests.sweep.commands import QUICK


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000_000.0

    monkeypatch.setattr(presence, "time", lambda: Clock.now)
    monkeypatch.setattr(presence, "monotonic", lambda: Clock.now)
    return Clock


def space(*words):
    return checked(compose_sweep([*QUICK, *words]))


def study_of(made):
    opened = Study("study.journal", "mine", made.spec, made.space, "this", 1)
    if opened.made:
        opened.enqueue([(point.number, point.values) for point in made.points], 0 if made.points else 2)
    return opened


def elsewhere(name, monkeypatch):
    """A driver on another host, with a folder of its own."""
    monkeypatch.setattr(presence.socket, "gethostname", lambda: name)
    Path(name).mkdir(exist_ok=True)
    return present(Path(name))


def test_a_driver_on_another_host_is_dead_once_it_has_been_silent_for_long(clock, monkeypatch):
    made = space("seed=1,2,3")
    theirs, ours = study_of(made), study_of(made)
    with elsewhere("a", monkeypatch) as they, elsewhere("b", monkeypatch) as we:
        assert they.sign(theirs)
        assert not they.sign(theirs)
        first = theirs.claim(they.name)
        ledger = Ledger(Outcome(Path("b"), made), ours, we)
        ledger.begin(retry=False)
        assert ledger.orphans == []
        assert ledger._outcome.trials[first.number].state == "running"
        clock.now += SILENT - 1
        assert not we.is_dead(they.name, ours)
        assert they.sign(theirs)  # a sign in time
        clock.now += SILENT
        ledger.look(adopt=True)
        assert ledger.orphans == []
        clock.now += 1
        ledger.look(adopt=False)
        assert ledger.orphans == []
        ledger.look(adopt=True)
        assert [(one.number, one.values) for one in ledger.orphans] == [(1, {"seed": 1})]
        assert ours.trials()[0].owner == we.name
        # The other was only asleep: what it has to say is not heard any more, and ends nothing.
        ours.tell(ledger.orphans[0], {"state": "finished", "result": {"val_loss": 1.0}}, [1.0])
        assert theirs.report(first, 1, 3.0) is False
        theirs.tell(first, {"state": "finished", "result": {"val_loss": 2.0}}, [2.0])
        assert ours.trials()[0].about["result"] == {"val_loss": 1.0}


def test_signs_are_given_now_and_then(clock, tmp_path):
    mine = study_of(space("seed=1,2"))
    with present(tmp_path) as me:
        assert me.sign(mine)
        clock.now += SIGN_EVERY - 1
        assert not me.sign(mine)
        clock.now += 1
        assert me.sign(mine)
        assert mine.signs == {me.name: clock.now}
        me.leave(mine)
        assert presence.Presence(tmp_path / "other").is_dead(me.name, mine)


def test_one_alone_takes_over(clock, monkeypatch):
    made = space("seed=1,2,3")
    dead = study_of(made)
    with elsewhere("a", monkeypatch) as they:
        they.sign(dead)
        dead.claim(they.name)
    clock.now += SILENT + 1
    studies = [study_of(made) for _ in range(3)]
    seen = [one.trials()[0] for one in studies]  # all have looked before any acts
    taken = [one.take_over(trial, f"driver {i}") for i, (one, trial) in enumerate(zip(studies, seen, strict=True))]
    assert [one is not None for one in taken] == [True, False, False]
    studies[0].let_go(taken[0], "driver 0")
    free = studies[1].trials()[0]
    assert free.free
    assert studies[1].take_over(free, "driver 1").owner == "driver 1"
    studies[0].let_go(taken[0], "driver 0")  # is not its own any more
    assert studies[2].trials()[0].owner == "driver 1"


def test_a_trial_without_a_name_is_left_alone_while_others_live(clock, monkeypatch):
    """A driver may be about to write its name there, or have been killed at that very moment."""
    mine = study_of(space("optimizer.lr=interval(1e-3,1e-1)", "sweep.budget.trials=2", "sweep.sampler=tpe"))
    with elsewhere("a", monkeypatch) as they, elsewhere("b", monkeypatch) as we:
        they.sign(mine)
        we.sign(mine)
        assert mine._popped(mine._study.get_trials()) is not None
        assert not we.is_dead("", mine)
        clock.now += SILENT + 1
        we.sign(mine)
        assert we.is_dead("", mine)
        nameless = next(one for one in mine.trials() if one.claimed)
        assert nameless.values == {}
        taken = mine.take_over(nameless, we.name)
        assert 0.001 <= taken.values["optimizer.lr"] <= 0.1  # chosen only now


def test_on_its_own_host_a_lock_tells(clock, tmp_path):
    mine = study_of(space("seed=1,2"))
    with present(tmp_path) as they:
        other = presence.Presence(tmp_path)
        clock.now += 10 * SILENT
        assert not other.is_dead(they.name, mine)  # held, however long it has been silent
        assert not they.is_dead(they.name, mine)
    assert not (tmp_path / they.name).exists()
    (tmp_path / they.name).touch()  # as a kill leaves it
    they.sign(mine)
    assert other.is_dead(they.name, mine)


def test_the_lock_stays_where_a_driver_fails_and_goes_where_it_is_stopped(tmp_path):
    with pytest.raises(InterruptedRun), present(tmp_path):
        raise InterruptedRun("stopped")
    assert list(tmp_path.glob(".driver-*")) == []
    with pytest.raises(RuntimeError), present(tmp_path):
        raise RuntimeError
    assert len(list(tmp_path.glob(".driver-*"))) == 1


def test_one_that_waits_enqueues_where_the_maker_does_not_get_on(monkeypatch):
    monkeypatch.setattr(study, "MAKING", 0.0)
    made = space("seed=1,2,3")
    points = [(point.number, point.values) for point in made.points]
    maker = Study("study.journal", "mine", made.spec, made.space, "this", 1)
    maker._study.enqueue_trial({"seed": "1"}, user_attrs={study.POINT: 1})
    waits = Study("study.journal", "mine", made.spec, made.space, "this", 1)
    assert (maker.made, waits.made, waits.ready) == (True, False, "")
    waits.wait_until_ready(points, 0)
    assert [one.number for one in maker.trials()] == [1, 2, 3]
    assert maker.ready == waits.ready != ""
