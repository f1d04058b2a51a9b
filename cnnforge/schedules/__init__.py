"""The schedule catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.fields import one_of, tag
from cnnforge.schedules.base import Schedule
from cnnforge.schedules.constant import ConstantSchedule
from cnnforge.schedules.cosine import CosineSchedule

__all__ = ["SCHEDULES", "AnySchedule", "ConstantSchedule", "Schedule"]

_CLASSES: tuple[type[Schedule], ...] = (ConstantSchedule, CosineSchedule)

#: Schedule classes by the name that YAML gives them.
SCHEDULES = {tag(cls): cls for cls in _CLASSES}

if TYPE_CHECKING:
    AnySchedule = Schedule
else:
    AnySchedule = one_of(_CLASSES)
