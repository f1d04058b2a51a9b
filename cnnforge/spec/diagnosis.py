"""Mistakes that no single field shows: shapes, references, the loss against the output, the output against the data."""

from __future__ import annotations

from collections.abc import Collection

from cnnforge.errors import ConfigError, Path, ShapeError
from cnnforge.losses import Loss, default_loss
from cnnforge.shapes import Shape
from cnnforge.spec.augment import AugmentSpec
from cnnforge.spec.data import DataSpec
from cnnforge.spec.layers import Row, ending, shown, walk
from cnnforge.spec.model import ModelSpec


def _loss_mistake(stated: Loss | None, last: Row) -> list[ConfigError]:
    """Does the loss make sense for what the last layer gives?"""
    try:
        (stated or default_loss(ending(last.block))).labels(last.output)
    except ShapeError as error:
        return [ShapeError(f"{last.name}: {error.what}", path=last.path, why=error.why, fix=error.fix)]
    return []


def mistakes(model: ModelSpec, unknown: Collection[Path] = ()) -> list[ConfigError]:
    """Every mistake of the model that pydantic cannot see: shapes, references, the loss against the output.

    unknown: layers of which nothing is known, because their fields are wrong; other blocks stand in their places
    """
    rows, errors = walk(model.input, model.layers, unknown=unknown)
    return errors if errors or unknown else _loss_mistake(model.loss, rows[-1])


def mixing_mistakes(model: ModelSpec, augment: AugmentSpec) -> list[ConfigError]:
    """Are labels such that those of two samples can be mixed, where pictures are?"""
    if not augment.mixes:
        return []
    try:
        model.effective_loss.mixed_labels(model.output)
    except ShapeError as error:
        name = "mixup" if augment.mixup is not None and augment.mixup.rate else "cutmix"
        return [ConfigError(f"augment: {error.what}", path=("augment", name), why=error.why, fix=error.fix)]
    return []


def data_mismatch(model: ModelSpec, data: DataSpec) -> list[ConfigError]:
    """What the model's output and the data's labels say of each other, where they disagree."""
    loss, last, classes = model.effective_loss, model.table[-1], data.class_count()
    path = last.path
    if loss.type == "mse":
        if classes is None:
            return []
        return [
            ConfigError(
                f"{last.name}: the loss is mse, and data '{data.type}' has class numbers for labels",
                path=path,
                why=f"mse compares the output {shown(last.output)} with targets of the same shape",
                fix=f"end with {{type: fc, units: {classes}, activation: softmax}}, or data=npz with targets",
            )
        ]
    if classes is None:
        return [
            ConfigError(
                "the number of classes is not known",
                path=("data",),
                why=f"the loss is {loss.type}, and data '{data.type}' does not say how many classes it has",
                fix=f"data.classes: {2 if loss.type == 'sigmoid_cross_entropy' else last.output[-1]}",
            )
        ]
    if loss.type == "sigmoid_cross_entropy":
        if last.output == (1,) and classes == 2:
            return []
        return [
            ConfigError(
                f"{last.name}: {_units(last.output, 'sigmoid unit')} for {classes} classes",
                path=path,
                why="one sigmoid unit answers one yes-or-no question: 2 classes",
                fix=f"units: {classes} with activation: softmax, or data of 2 classes",
            )
        ]
    if last.output != (classes,):
        return [
            ConfigError(
                f"{last.name}: {_units(last.output, 'unit')} for {classes} classes",
                path=(*path, "units") if last.type == "fc" else path,
                why=f"data '{data.type}' has {classes} classes, one output for each",
                fix=f"units: {classes}" if last.type == "fc" else f"end with {{type: fc, units: {classes}}}",
            )
        ]
    return []


def _units(output: Shape, unit: str) -> str:
    """``3 units``, or the shape of a volume."""
    return f"{output[0]} {unit}{'s' * (output[0] > 1)}" if len(output) == 1 else f"an output of {shown(output)}"
