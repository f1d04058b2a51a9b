"""The optimizer catalogue, put together with what installed packages add when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnforge import plugins
from cnnforge.fields import one_of, tag
from cnnforge.optim.adam import Adam, Adamw
from cnnforge.optim.base import Optimizer
from cnnforge.optim.lamb import Lamb
from cnnforge.optim.muon import Muon
from cnnforge.optim.rmsprop import Rmsprop
from cnnforge.optim.sgd import Sgd

__all__ = ["OPTIMIZERS", "Adam", "AnyOptimizer", "Optimizer"]

_CLASSES: tuple[type[Optimizer], ...] = (Sgd, Rmsprop, Adam, Adamw, Lamb, Muon)

if TYPE_CHECKING:
    AnyOptimizer = Optimizer
    #: Optimizer classes by the name that YAML gives them.
    OPTIMIZERS: dict[str, type[Optimizer]]


def __getattr__(name: str) -> Any:
    if name not in ("AnyOptimizer", "OPTIMIZERS"):
        raise AttributeError(f"module 'cnnforge.optim' has no attribute {name!r}")
    classes = (*_CLASSES, *plugins.classes(plugins.OPTIMIZERS, Optimizer, [tag(cls) for cls in _CLASSES]))
    found = {"AnyOptimizer": one_of(classes), "OPTIMIZERS": {tag(cls): cls for cls in classes}}
    globals().update(found)
    return found[name]
