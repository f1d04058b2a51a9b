"""The loss catalogue, put together with what installed packages add when it is first asked for.

Unless stated, the loss follows the last activation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnforge import plugins
from cnnforge.fields import Short, one_of, tag
from cnnforge.losses.base import Loss
from cnnforge.losses.cross_entropy import SigmoidCrossEntropy, SoftmaxCrossEntropy
from cnnforge.losses.mse import Mse

__all__ = ["LOSSES", "AnyLoss", "Loss", "default_loss"]

_CLASSES: tuple[type[Loss], ...] = (SoftmaxCrossEntropy, SigmoidCrossEntropy, Mse)

if TYPE_CHECKING:
    AnyLoss = Loss
    #: Loss classes by the name that YAML gives them.
    LOSSES: dict[str, type[Loss]]


def __getattr__(name: str) -> Any:
    if name not in ("AnyLoss", "LOSSES"):
        raise AttributeError(f"module 'cnnforge.losses' has no attribute {name!r}")
    classes = (*_CLASSES, *plugins.classes(plugins.LOSSES, Loss, [tag(cls) for cls in _CLASSES]))
    found = {"AnyLoss": one_of(classes, Short()), "LOSSES": {tag(cls): cls for cls in classes}}
    globals().update(found)
    return found[name]


def default_loss(last_activation: str) -> Loss:
    """softmax -> softmax_cross_entropy, sigmoid -> sigmoid_cross_entropy, anything else -> mse."""
    for cls in _CLASSES:
        if cls.fuses == last_activation:
            return cls(type=tag(cls))
    return Mse(type="mse")
