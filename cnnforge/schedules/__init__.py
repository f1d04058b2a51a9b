"""The schedule catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.fields import one_of, tag
from cnnforge.schedules.base import Course, Schedule
from cnnforge.schedules.constant import ConstantSchedule
from cnnforge.schedules.cosine import CosineSchedule
from cnnforge.schedules.linear import LinearSchedule, PolynomialSchedule
from cnnforge.schedules.one_cycle import OneCycleSchedule
from cnnforge.schedules.plateau import PlateauSchedule
from cnnforge.schedules.step import ExponentialSchedule, MultiStepSchedule, StepSchedule

__all__ = ["SCHEDULES", "AnySchedule", "ConstantSchedule", "Course", "Schedule"]

_CLASSES: tuple[type[Schedule], ...] = (
    ConstantSchedule, CosineSchedule, LinearSchedule, PolynomialSchedule, OneCycleSchedule, StepSchedule,
    MultiStepSchedule, ExponentialSchedule, PlateauSchedule,
)  # fmt: skip

#: Schedule classes by the name that YAML gives them.
SCHEDULES = {tag(cls): cls for cls in _CLASSES}

if TYPE_CHECKING:
    AnySchedule = Schedule
else:
    AnySchedule = one_of(_CLASSES)
