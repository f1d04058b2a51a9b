"""Models with weights that hide nothing, their ONNX files, and ONNX files made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnforge.export import verify
from cnnforge.export.onnx import Source, as_given, to_onnx
from cnnforge.export.onnx_import import from_onnx
from cnnforge.export.onnx_import.text import yaml_text
from cnnforge.inference.importing import build
from cnnforge.model import Model
from cnnforge.spec import ModelSpec


def model_of(input: Sequence[int], layers: Mapping[str, Any], seed: int = 0) -> Model:
    """A noisy model of these layers."""
    return noisy(ModelSpec.model_validate({"name": "net", "input": list(input), "layers": dict(layers)}), seed)


def noisy(spec: ModelSpec, seed: int = 0) -> Model:
    """Every weight and statistic drawn anew, so that no bias is 0 and no norm the identity."""
    model = Model(spec, backend="numpy", seed=seed)
    rng = np.random.default_rng(seed)
    for name, array in model.params.items():
        if name.endswith(".gamma"):
            model.params[name] = rng.uniform(0.5, 1.5, array.shape)
        elif array.ndim == 1:
            model.params[name] = rng.normal(size=array.shape) * 0.3
    for name, array in model.state.items():
        kind = rng.uniform(0.5, 1.5, array.shape) if name.endswith(".var") else rng.normal(size=array.shape) * 0.3
        model.state[name] = kind
    return model


def exported(model: Model, **how: Any) -> bytes:
    source = Source(model.spec, {**model.params, **model.state}, model.preprocessing, model.classes)
    return to_onnx(source, **how)


def pictures(model: Model, n: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *model.spec.input), dtype=np.float32)


def difference(model: Model, content: bytes, x: np.ndarray, layout: str = "nchw") -> float:
    """The largest between onnxruntime and the model."""
    return verify.difference(content, as_given(x, layout), as_given(model.predict(x), layout))


def imported(path: Path, **how: Any) -> Model:
    """The model of an ONNX file, by way of its YAML text."""
    found = from_onnx(path, **how)
    return build(yaml_text("again", path.name, found.input, found.layers), found)


def file_of(nodes: Sequence[Any], weights: Mapping[str, np.ndarray], input: Sequence[Any], path: Path, opset: int = 17,
            outputs: Sequence[str] = ("y",), about: Mapping[str, str] | None = None) -> Path:  # fmt: skip
    """Write an ONNX file with the input ``x`` and outputs of any shape."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        list(nodes), "by_hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(input))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    sets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=helper.find_min_ir_version_for(sets))
    helper.set_model_props(model, dict(about or {}))
    model = onnx.shape_inference.infer_shapes(model)
    for made in model.graph.output:  # a file must say some shape, though nobody reads it
        made.type.tensor_type.shape.SetInParent()
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path
