"""The optimizer catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.fields import one_of, tag
from cnnforge.optim.adam import Adam, Adamw
from cnnforge.optim.base import Optimizer
from cnnforge.optim.rmsprop import Rmsprop
from cnnforge.optim.sgd import Sgd

__all__ = ["OPTIMIZERS", "Adam", "AnyOptimizer", "Optimizer"]

_CLASSES: tuple[type[Optimizer], ...] = (Sgd, Rmsprop, Adam, Adamw)

#: Optimizer classes by the name that YAML gives them.
OPTIMIZERS = {tag(cls): cls for cls in _CLASSES}

if TYPE_CHECKING:
    AnyOptimizer = Optimizer
else:
    AnyOptimizer = one_of(_CLASSES)
