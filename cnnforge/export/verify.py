"""What onnxruntime makes of an ONNX file: the only door to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import CheckpointError


def available() -> bool:
    """Is onnxruntime installed?"""
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


def run(model: bytes, x: NDArray[Any], output: str | None = None) -> NDArray[Any]:
    """The file's ``output``, its first where none is named, for ``x``, which is given to its one input.

    Raises CheckpointError where onnxruntime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it warns of is its own business
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        result: NDArray[Any] = session.run([output] if output else None, {session.get_inputs()[0].name: x})[0]
    except Exception as error:  # its own classes derive from nothing narrower
        raise CheckpointError(
            "onnxruntime does not run the file",
            where=f"onnxruntime {onnxruntime.__version__}",
            why=str(error).splitlines()[0],
            fix="another --opset, or a newer onnxruntime",
        ) from None
    return result


def difference(model: bytes, x: NDArray[Any], expected: NDArray[Any], output: str | None = None) -> float:
    """The largest absolute difference between what onnxruntime gives for ``x`` and ``expected``; nan where one is."""
    got = run(model, x, output)
    if got.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(got.astype(np.float64) - expected), initial=0.0))
