"""The nets that benchmarks run, each with the optimizer it is trained by, and what was asked of us for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnforge.config import compose, read_model, validate, validate_model
from cnnforge.optim import Optimizer
from cnnforge.optim.adam import Adam
from cnnforge.optim.sgd import Sgd
from cnnforge.spec import ModelSpec

#: Nets that are not shipped: in the language.
MODELS = Path(__file__).parent / "models"

#: Nets that are a shipped one with other words. MobileNetV2 on CIFAR's pictures: three of its five strides remain, as
#: in the adaptations that PyTorch's users train, and no dropout, whose random numbers two libraries cannot share.
DERIVED = {
    "mobilenet_v2_cifar": (
        "model=mobilenet_v2", "model.input=[32,32,3]", "model.layers.stem.stride=1", "model.layers.stage2.stride=1",
        "~model.layers.drop", "model.layers.output.units=10",
    ),
}  # fmt: skip

#: The weights hardly move: a net that sees one batch again and again would soon have gradients too small to be typical
#: (and denormal numbers are slow). What a step costs does not depend on the learning rate.
RATE = 1e-5
ADAM = Adam(type="adam", lr=RATE)
MOMENTUM = Sgd(type="sgd", lr=RATE, momentum=0.9)
NESTEROV = Sgd(type="sgd", lr=RATE, momentum=0.9, nesterov=True, weight_decay=7e-4)


@dataclass(frozen=True)
class Goal:
    """PyTorch's time / ours: what must be reached, and what is aimed at."""

    least: float
    aim: float


@dataclass(frozen=True)
class Training:
    """A row of the training benchmark: net, batches, optimizer and goal."""

    net: str
    batches: tuple[int, ...]
    optimizer: Optimizer
    goal: Goal


TRAINING = (
    Training("lenet", (64, 128), ADAM, Goal(3.0, 4.0)),
    Training("vgg_style", (64, 128), ADAM, Goal(1.8, 2.5)),
    Training("resnet20", (64, 128), MOMENTUM, Goal(1.4, 2.0)),
    Training("mobilenet_v2_cifar", (64,), MOMENTUM, Goal(1.4, 2.0)),
    Training("simple_convnet", (64,), ADAM, Goal(2.5, 4.0)),
    Training("cifar_net", (128,), NESTEROV, Goal(1.8, 2.5)),
)

#: Inference goals by net and batch.
INFERENCE: Mapping[tuple[str, int], Goal | None] = {
    ("lenet", 1): Goal(5.0, 10.0), ("lenet", 64): Goal(3.0, 4.0),
    ("resnet20", 1): None, ("resnet20", 64): None,
    ("vgg_style", 1): None, ("vgg_style", 64): None,
    ("mobilenet_v2_cifar", 1): None, ("mobilenet_v2_cifar", 64): None,
}  # fmt: skip


def known(net: str) -> Training | None:
    """The row of a net that has one."""
    return next((row for row in TRAINING if row.net == net), None)


def optimizer(net: str) -> Optimizer:
    """What a net is trained by: its row's, else Adam."""
    row = known(net)
    return row.optimizer if row else ADAM


def spec(net: str | Mapping[str, Any]) -> ModelSpec:
    """A net by name (one of ours here, or any shipped model), by the path of a YAML file, or as a dict.

    Raises ConfigErrors, which names the shipped models where the name is none.
    """
    if not isinstance(net, str):
        return validate_model(read_model(net))
    if net in DERIVED:
        return validate(compose(DERIVED[net]), match_data=False).model
    own = MODELS / f"{net}.yaml"
    if own.is_file() or net.endswith((".yaml", ".yml")):
        return validate_model(read_model(own if own.is_file() else Path(net)))
    return validate(compose([f"model={net}"]), match_data=False).model


def training_flops(model: ModelSpec, batch: int) -> int:
    """Floating-point operations of one training step's convolutions and products, each done directly.

    Two for each multiply-accumulate, three products per layer (forward, dx, dw), but no dx towards the picture.
    """
    total = sum(row.macs for row in model.table)
    first = sum(row.macs for row in model.table if -1 in row.reads)
    return 2 * (3 * total - first) * batch


def inference_flops(model: ModelSpec, batch: int) -> int:
    """The same of one forward pass."""
    return 2 * sum(row.macs for row in model.table) * batch
