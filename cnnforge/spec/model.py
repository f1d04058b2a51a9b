"""``model:`` a network as it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cnnforge.blocks import AnyBlock
from cnnforge.errors import ConfigErrors
from cnnforge.fields import Name, PositiveInt, Spec
from cnnforge.losses import AnyLoss, Loss, default_loss
from cnnforge.shapes import Shape
from cnnforge.spec.layers import Row, ending, walk


class ModelSpec(Spec):
    """``model:`` a name, an input (height, width, channels), layers in order, a loss where it is not the usual one."""

    name: Name = "model"
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    layers: dict[Name, AnyBlock]
    loss: AnyLoss | None = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> ModelSpec:
        """A copy with these fields changed; pydantic's own would keep the table of the original."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("table", None)
        return copy

    @cached_property
    def table(self) -> tuple[Row, ...]:
        """A row per layer, the implied flatten included. Raises ConfigErrors with every mistake."""
        rows, errors = walk(self.input, self.layers)
        if errors:
            raise ConfigErrors(errors)
        return tuple(rows)

    @property
    def output(self) -> Shape:
        return self.table[-1].output

    @property
    def last_activation(self) -> str:
        """The function that the last layer ends with, or ``none``."""
        return ending(self.table[-1].block)

    @property
    def effective_loss(self) -> Loss:
        """The loss as stated, or the one that follows from the last activation."""
        return self.loss or default_loss(self.last_activation)
