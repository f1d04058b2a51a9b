"""The loss catalogue. Unless stated, the loss follows the last activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from cnnforge.fields import one_of, tag
from cnnforge.losses.base import Loss
from cnnforge.losses.cross_entropy import SigmoidCrossEntropy, SoftmaxCrossEntropy
from cnnforge.losses.mse import Mse

__all__ = ["LOSSES", "AnyLoss", "Loss", "default_loss"]

_CLASSES: tuple[type[Loss], ...] = (SoftmaxCrossEntropy, SigmoidCrossEntropy, Mse)

#: Loss classes by the name that YAML gives them.
LOSSES = {tag(cls): cls for cls in _CLASSES}


def _short(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


if TYPE_CHECKING:
    AnyLoss = Loss
else:
    AnyLoss = Annotated[one_of(_CLASSES), BeforeValidator(_short)]


def default_loss(last_activation: str) -> Loss:
    """softmax -> softmax_cross_entropy, sigmoid -> sigmoid_cross_entropy, anything else -> mse."""
    for cls in _CLASSES:
        if cls.fuses == last_activation:
            return cls(type=tag(cls))
    return Mse(type="mse")
