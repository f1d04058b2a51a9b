"""Networks of the shapes that are really trained, as plain sequences, for tests of planning, memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnforge.spec import ModelSpec


def plain_deep(triples: int = 100) -> ModelSpec:
    """Convolutions of 1x1, 3x3 and 1x1 in turn: as many nodes as ResNet-101 has."""
    kinds: Sequence[dict[str, Any]] = [
        {"filters": 16, "kernel": 1}, {"filters": 16, "kernel": 3}, {"filters": 64, "kernel": 1},
    ]  # fmt: skip
    return _net("plain_deep", [kinds[i % 3] for i in range(triples)])


def plain_resnet20() -> ModelSpec:
    """The 19 convolutions of ResNet-20 for 32x32 pictures (He et al., 2016), without its shortcuts."""
    filters = [16] * 7 + [32] * 6 + [64] * 6
    return _net(
        "plain_resnet20", [{"filters": f, "kernel": 3, "stride": 1 + (i in (7, 13))} for i, f in enumerate(filters)]
    )


def plain_mobilenet() -> ModelSpec:
    """Depthwise 3x3 and pointwise 1x1 in turn (Howard et al., 2017), for 32x32 pictures."""
    convs: list[dict[str, Any]] = [{"filters": 32, "kernel": 3}]
    for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        c = convs[-1]["filters"]
        convs.append({"filters": c, "kernel": 3, "groups": c, "stride": stride})
        convs.append({"filters": filters, "kernel": 1})
    return _net("plain_mobilenet", convs)


def plain_vgg() -> ModelSpec:
    """Six 3x3 convolutions with batch_norm in three stages, then two fc."""
    layers: dict[str, Any] = {}
    for stage, filters in enumerate((32, 64, 128)):
        for part in "ab":
            layers |= _triple(f"{stage}{part}", {"filters": filters, "kernel": 3})
        layers[f"pool{stage}"] = {"type": "pool", "kernel": 2}
    return _spec("plain_vgg", layers | {"fc": {"type": "fc", "units": 128, "activation": "relu"}})


def _net(name: str, convs: Sequence[dict[str, Any]]) -> ModelSpec:
    layers: dict[str, Any] = {}
    for i, conv in enumerate(convs):
        layers |= _triple(str(i), conv)
    return _spec(name, layers | {"pool": {"type": "global_pool", "mode": "average"}})


def _triple(name: str, conv: dict[str, Any]) -> dict[str, Any]:
    return {
        f"conv{name}": {"type": "conv", "padding": "same", "bias": False, **conv},
        f"bn{name}": {"type": "batch_norm"},
        f"relu{name}": {"type": "activation", "function": "relu"},
    }


def _spec(name: str, layers: dict[str, Any]) -> ModelSpec:
    out = {"type": "fc", "units": 10, "activation": "softmax"}
    return ModelSpec.model_validate({"name": name, "input": [32, 32, 3], "layers": layers | {"out": out}})
