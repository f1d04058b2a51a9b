"""Schedules: the learning rate's factor at each step, against their formulas and against PyTorch's."""

from itertools import pairwise
from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cnnforge.schedules import SCHEDULES, AnySchedule, Course

#: What a schedule cannot do without.
NEEDED = {"step": {"size": 3}, "multi_step": {"milestones": [2, 5]}}


def make(**fields):
    return TypeAdapter(AnySchedule).validate_python(NEEDED.get(fields["type"], {}) | fields)


@pytest.mark.parametrize("warmup", [None, {"epochs": 0.5}, {"steps": 7, "start": 0.2}], ids=["", "epochs", "steps"])
@pytest.mark.parametrize("kind", SCHEDULES)
@given(steps=st.integers(1, 10_000), per_epoch=st.integers(1, 400))
def test_every_schedule_stays_a_share_of_the_learning_rate(kind, warmup, steps, per_epoch):
    if warmup is not None and SCHEDULES[kind].rises:
        return
    schedule = make(type=kind, warmup=warmup)
    for step in {0, steps // 3, steps // 2, steps - 1}:
        rate = schedule.rate(step, steps, per_epoch)
        assert 0 <= rate <= 1
        assert rate == schedule.rate(step, steps, per_epoch)
    if warmup is None and not SCHEDULES[kind].rises:
        assert schedule.rate(0, steps, per_epoch) == 1


def test_constant():
    assert {make(type="constant").rate(step, 10, 5) for step in range(10)} == {1.0}


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine(floor):
    schedule = make(type="cosine", floor=floor)
    factors = [schedule.rate(step, 100, 10) for step in range(101)]
    assert factors == sorted(factors, reverse=True)
    assert factors[50] == pytest.approx((1 + floor) / 2)
    assert factors[100] == pytest.approx(floor)
    assert factors[25] == pytest.approx(floor + (1 - floor) * (1 + cos(pi / 4)) / 2)


def test_a_triangle():
    schedule = make(type="linear", rise=0.2, floor=0.1)
    rates = [schedule.rate(step, 50, 10) for step in range(50)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    falls = [a - b for a, b in pairwise(rates[10:])]
    assert falls == pytest.approx([0.9 / 40] * 39)
    assert rates[-1] - falls[-1] == pytest.approx(0.1)
    assert make(type="linear", rise=0).rate(0, 50, 10) == 1


def test_a_warm_up_in_front_of_any():
    plain, warm = make(type="cosine"), make(type="cosine", warmup={"epochs": 2, "start": 0.1})
    rates = [warm.rate(step, 100, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([0.1 + 0.9 * (step + 1) / 20 for step in range(20)])
    assert rates[20:] == [plain.rate(step, 80, 10) for step in range(80)]
    assert warm.reaches() == {"warmup": 2}
    late = make(type="step", size=2, warmup={"steps": 5})
    assert late.rate(24, 100, 10) == 1
    assert late.rate(25, 100, 10) == pytest.approx(0.1)
    assert make(type="constant", warmup={"steps": 50}).rate(9, 20, 10) == 0.2, "a run may end while it rises"


def test_what_a_plateau_remembers():
    schedule = make(type="plateau", patience=1, gamma=0.5, floor=0.2)
    course, scales = Course(), []
    for loss in (1.0, 0.9, 0.95, 0.91, 0.95, 0.95, 0.95, 0.95, 0.5, 0.6):
        course = schedule.after_epoch(course, {"val_loss": loss, "train_loss": 0.0})
        scales.append(course.scale)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    accuracy = make(type="plateau", patience=0, metric="val_accuracy")
    course = accuracy.after_epoch(accuracy.after_epoch(Course(), {"val_accuracy": 0.9, "train_loss": 1}),
                                  {"val_accuracy": 0.8, "train_loss": 1})  # fmt: skip
    assert course.scale == pytest.approx(0.1)


def torch_rates(make_theirs, steps, per_epoch=None):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = make_theirs(torch.optim.lr_scheduler, optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if per_epoch is None or (step + 1) % per_epoch == 0:
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs", "per_epoch"),
    [
        ({"type": "cosine", "floor": 0.1}, lambda s, o: s.CosineAnnealingLR(o, 60, eta_min=0.1), None),
        ({"type": "polynomial", "power": 2}, lambda s, o: s.PolynomialLR(o, 60, power=2), None),
        ({"type": "one_cycle"}, lambda s, o: s.OneCycleLR(o, 1.0, 60), None),
        ({"type": "one_cycle", "rise": 0.4, "anneal": "linear", "div": 10, "final_div": 100},
         lambda s, o: s.OneCycleLR(o, 1.0, 60, pct_start=0.4, anneal_strategy="linear", div_factor=10,
                                   final_div_factor=100), None),
        ({"type": "step", "size": 3, "gamma": 0.3}, lambda s, o: s.StepLR(o, 3, 0.3), 5),
        ({"type": "multi_step", "milestones": [2, 7], "gamma": 0.3}, lambda s, o: s.MultiStepLR(o, [2, 7], 0.3), 5),
        ({"type": "exponential", "gamma": 0.9}, lambda s, o: s.ExponentialLR(o, 0.9), 5),
    ],
    ids=lambda case: case["type"] if isinstance(case, dict) else "",
)  # fmt: skip
def test_pytorch_has_the_same_rates(ours, theirs, per_epoch):
    schedule = make(**ours)
    found = [schedule.rate(step, 60, per_epoch or 5) for step in range(60)]
    assert found == pytest.approx(torch_rates(theirs, 60, per_epoch), rel=1e-9, abs=1e-12)


@given(losses=st.lists(st.floats(0.1, 2), min_size=50, max_size=60), patience=st.integers(0, 4))
def test_pytorch_sees_the_same_plateaus(losses, patience):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, factor=0.5, eps=0)
    schedule, course = make(type="plateau", patience=patience, gamma=0.5), Course()
    for loss in losses:
        theirs.step(loss)
        course = schedule.after_epoch(course, {"val_loss": loss, "train_loss": 0.0})
        assert course.scale == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "cosine", "floor": 1.0}, {"type": "cosine", "floor": -0.1}, {"type": "steps"},
        {"type": "multi_step", "milestones": []}, {"type": "multi_step", "milestones": [5, 2]},
        {"type": "cosine", "warmup": {}}, {"type": "cosine", "warmup": {"steps": 5, "epochs": 1}},
        {"type": "one_cycle", "warmup": {"steps": 5}}, {"type": "linear", "warmup": {"epochs": 1}},
        {"type": "step", "size": 0},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        make(**fields)
