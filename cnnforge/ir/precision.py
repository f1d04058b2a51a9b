"""What ``trainer.precision`` means: the one table of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Precision:
    """What a network is computed in.

    activations: dtype of activations and their gradients
    weights:  dtype of all else: parameters, their gradients, slots, running state, statistics, losses, predictions
    tf32:     are factors of matrix products and convolutions rounded to 10 bits of mantissa?
    scaled:   is the loss scaled up, so that gradients are not too small for ``activations``?
    backend:  the only backend that has it; empty where all have
    about:    what it means, in words; empty where the name says it
    """

    activations: str
    weights: str
    tf32: bool = False
    scaled: bool = False
    backend: str = ""
    about: str = ""

    @property
    def mixed(self) -> bool:
        """Are activations of another dtype than weights?"""
        return self.activations != self.weights


_MASTER = "activations in 2 bytes, weights, gradients and slots in 4 (master weights)"

#: By the name that ``trainer.precision`` gives. bfloat16 has float32's range, so its gradients need no scaling.
PRECISIONS: Mapping[str, Precision] = {
    "float32": Precision("float32", "float32"),
    "float64": Precision("float64", "float64"),
    "tf32": Precision(
        "float32", "float32", tf32=True, backend="cupy",
        about="everything in 4 bytes, factors of products rounded to 10 bits of mantissa",
    ),
    "bfloat16": Precision("bfloat16", "float32", backend="cupy", about=_MASTER),
    "float16": Precision("float16", "float32", scaled=True, backend="cupy", about=f"{_MASTER}, loss scaled"),
}  # fmt: skip
