"""What a run may say: the root of the config language.

Blocks, losses, optimizers, schedules and initialisers state their own fields in their own rooms; everything else that
YAML may say is here, with the walk that works out every shape before any array exists.
"""

from __future__ import annotations

from cnnforge.spec.augment import AugmentSpec
from cnnforge.spec.data import (
    Cifar10Data,
    DataSpec,
    DigitsData,
    EdgesData,
    FashionMnistData,
    IdxSpec,
    ImageFolderData,
    ManifestData,
    MnistData,
    NpzData,
    PicturesSpec,
    SyntheticData,
)
from cnnforge.spec.diagnosis import data_mismatch, mistakes, mixing_mistakes
from cnnforge.spec.layers import LAYERS, MODEL_INPUT_ROW, Row, ending, ordered, walk
from cnnforge.spec.model import ModelSpec
from cnnforge.spec.run import RunFolderSpec, RunSpec, TrackingSpec, TrainerSpec
from cnnforge.spec.templates import PLACEHOLDER, TEMPLATES, Expansion, Template, expand, layer_of

__all__ = [
    "LAYERS",
    "MODEL_INPUT_ROW",
    "PLACEHOLDER",
    "TEMPLATES",
    "AugmentSpec",
    "Cifar10Data",
    "DataSpec",
    "DigitsData",
    "EdgesData",
    "Expansion",
    "FashionMnistData", "IdxSpec",
    "ImageFolderData",
    "ManifestData",
    "MnistData",
    "ModelSpec",
    "NpzData",
    "PicturesSpec",
    "Row",
    "RunFolderSpec",
    "RunSpec",
    "SyntheticData",
    "Template",
    "TrackingSpec",
    "TrainerSpec",
    "data_mismatch",
    "ending",
    "expand",
    "layer_of",
    "mistakes",
    "mixing_mistakes",
    "ordered",
    "walk",
]  # fmt: skip
