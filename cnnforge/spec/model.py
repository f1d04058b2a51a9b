"""``model:`` a network as it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field, PrivateAttr, SerializerFunctionWrapHandler, model_serializer

from cnnforge.blocks import AnyBlock
from cnnforge.errors import ConfigErrors
from cnnforge.fields import Name, PositiveInt, Spec
from cnnforge.losses import AnyLoss, Loss, default_loss
from cnnforge.shapes import Shape
from cnnforge.spec.layers import Row, ending, walk
from cnnforge.spec.templates import Template


class ModelSpec(Spec):
    """``model:`` a network, written down.

    name: what the model is called
    input: height, width, channels
    templates: blocks with parameters, by the name of the type that they add
    layers: by name, in running order
    loss: where it is not the usual one, which follows the last activation
    """

    name: Name = "model"
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    templates: dict[Name, Template] = Field(default_factory=dict)
    layers: dict[Name, AnyBlock]
    loss: AnyLoss | None = None
    _written: dict[str, Any] | None = PrivateAttr(None)

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records keep templates and repetitions as they were written: a reader then meets the short form again."""
        if self._written is not None:
            return self._written
        return {key: value for key, value in plain(self).items() if key != "templates"}

    def written_as(self, tree: Mapping[str, Any]) -> ModelSpec:
        """The same model, of which records keep ``tree``."""
        copy = self.model_copy()
        copy._written = dict(tree)
        return copy

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> ModelSpec:
        """A copy with these fields changed; pydantic's own would keep the table of the original."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("table", None)
        copy._written = None
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
