"""Whole networks: a step by compiled kernels, fused as they are planned, beside the numpy backend's.

Kernels and chains are held to their definitions one by one elsewhere; here it is what the planner makes of a net.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnforge
from cnnforge.config import compose, validate
from cnnforge.errors import ConfigErrors

MODELS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs/model").glob("*.yaml"))
#: Shortcuts with a convolution of their own, with padding, with none; branches; dense and depthwise ones.
SOME = {"resnet18", "resnet20", "googlenet", "squeezenet", "mobilenet_v2"}
#: Height and width: small, so that a step takes a moment; and of nets that need more, what they need.
SIDES = (32, 64, 128, 224, 227, 299)
#: Of these the last norms would see four numbers of each channel; norms of few numbers amplify rounding.
LARGER = {"resnet50", "resnet101"}


def small(name):
    """The net for the smallest pictures that it takes, with as many channels as it is made for."""
    shape = validate(compose([f"model={name}"]), match_data=False).model.input
    for side in (s for s in SIDES[2 * (name in LARGER) :] if s <= max(shape[:2])):
        try:
            return validate(
                compose([f"model={name}", f"model.input=[{side},{side},{shape[2]}]"]), match_data=False
            ).model
        except ConfigErrors:
            continue
    return validate(compose([f"model={name}"]), match_data=False).model


def step(spec, backend, precision, x, labels):
    """(loss, all gradients one after another) of a step from the same weights."""
    model = cnnforge.Model(spec, backend=backend, precision=precision)
    loss, grads = model.loss_and_grads(x.astype(precision), labels)
    flat = [np.asarray(grads[name], np.float64).ravel() for name in sorted(grads)]
    return loss, np.concatenate(flat) if flat else np.zeros(1)


@pytest.mark.parametrize("name", [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_a_step_is_numpys(name):
    """Deep nets are far from float64 by rounding alone: Winograd's is larger, and relu's kinks are crossed by it."""
    spec = small(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, *spec.input)).astype(np.float32)
    if spec.effective_loss.type == "mse":
        labels = rng.standard_normal((4, *spec.output)).astype(np.float32)
    else:
        labels = rng.integers(0, spec.output[-1], 4)
    (loss, grads), (expected, wanted) = (
        step(spec, backend, precision, x, labels) for backend, precision in (("numba", "float32"), ("numpy", "float64"))
    )
    assert loss == pytest.approx(expected, rel=5e-3)
    assert np.linalg.norm(grads - wanted) <= (0.1 if name in LARGER else 0.03) * np.linalg.norm(wanted)
