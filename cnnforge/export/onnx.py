"""A network as an ONNX file: pictures in, what ``Model.predict`` gives out, for any number of pictures.

What is written is the inference graph, op by op (``onnx_ops``): composite blocks come along without a word of their
own. Inside it activations are (N, C, H, W), as ONNX has them; what a caller sees is up to ``layout``.

Opset 17 is what is written unless another is asked for: the oldest that has LayerNormalization, so that the most
runtimes read it. No op that is written changed its meaning after it; gelu is one op from 20 on, several before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import Preprocessing
from cnnforge.errors import BackendError, ConfigError
from cnnforge.export.onnx_ops import RULES, Draft
from cnnforge.ir.graph import Graph, Node, Value
from cnnforge.ir.rewrite import count_readers
from cnnforge.lower import eval_graph
from cnnforge.shapes import Shape
from cnnforge.spec import ModelSpec

Layout = Literal["nchw", "nhwc"]
OLDEST_OPSET, NEWEST_OPSET = 17, 22
#: What a protobuf may hold, and room for all that is not weights.
LARGEST = (1 << 31) - (1 << 24)
#: The keys of what the file says of itself.
MODEL, CLASSES, PREPROCESSING, LAYOUT, TAKES = (
    f"cnnforge.{key}" for key in ("model", "classes", "preprocessing", "layout", "takes")
)
#: What a file may take: pictures that are normalised already, or pixels.
NORMALISED, PIXELS = "normalised pictures", "pixels"
#: The names of input and output, and of the batch axis.
INPUT, OUTPUT, BATCH = "input", "output", "N"


@dataclass(frozen=True)
class Source:
    """What is exported.

    arrays: parameters and running state by name
    preprocessing: how raw pictures become network input, where that is known
    """

    spec: ModelSpec
    arrays: Mapping[str, NDArray[Any]]
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()


def to_onnx(source: Source, opset: int = OLDEST_OPSET, layout: Layout = "nchw", raw: bool = False) -> bytes:
    """The bytes of an ONNX file that onnx's own checker has passed.

    layout: of input and output, ``nchw`` or ``nhwc``
    raw: take pixels as training's pictures had them (uint8 where they were) and subtract and divide inside

    Raises ConfigError for what cannot be written, BackendError where the package ``onnx`` is not installed.
    """
    onnx = _package()
    _refuse(source, opset, raw)
    g = eval_graph(source.spec, 1, "float32", each_layer=True)
    draft = Draft(source.arrays, opset)
    x = _entry(draft, source, layout, raw)
    end = g.outputs["prediction"]
    turned = layout == "nhwc" and len(end.shape) == 4
    draft.names[g.inputs["x"]] = x
    if not turned:
        draft.titles[end] = OUTPUT
    _write(draft, g, end)
    if turned:
        draft.emit("Transpose", [draft.names[end]], OUTPUT, perm=[0, 2, 3, 1])
    helper, kinds = onnx.helper, onnx.TensorProto
    pixels = source.preprocessing is not None and raw and source.preprocessing.pixels == "uint8"
    given = source.preprocessing.kept if raw and source.preprocessing else source.spec.input
    graph = helper.make_graph(
        [helper.make_node(n.op, n.ins, [n.out], name=n.out, **n.attrs) for n in draft.nodes],
        source.spec.name,
        [helper.make_tensor_value_info(INPUT, kinds.UINT8 if pixels else kinds.FLOAT, _dims(given, layout))],
        [helper.make_tensor_value_info(OUTPUT, kinds.FLOAT, _dims(end.shape[1:], layout))],
        [onnx.numpy_helper.from_array(array, name) for name, array in draft.constants.items()],
    )
    sets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph,
        opset_imports=sets,
        ir_version=helper.find_min_ir_version_for(sets),  # the newest would shut older runtimes out
        producer_name="cnnforge",
    )
    helper.set_model_props(model, _about(source, layout, raw))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _package() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        raise BackendError(
            "ONNX files need the package onnx",
            where="cnnforge.export.onnx",
            why="it is not installed here",
            fix="pip install 'cnnforge[onnx]'",
        ) from None
    return onnx


def _refuse(source: Source, opset: int, raw: bool) -> None:
    """Raise ConfigError for what is known beforehand not to work."""
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ConfigError(
            f"opset {opset} is not one that cnnforge writes",
            where="--opset",
            why=f"{OLDEST_OPSET} to {NEWEST_OPSET} are tested; LayerNormalization is in none before {OLDEST_OPSET}",
            fix=f"--opset {OLDEST_OPSET}, which the most runtimes read",
        )
    if raw and source.preprocessing is None:
        raise ConfigError(
            "nothing is known of raw pictures",
            where="--raw",
            why="the model carries no preprocessing: it was not trained by a run",
            fix="leave --raw out; the file then takes network input",
        )
    size = sum(array.size * 4 for array in source.arrays.values())
    if size > LARGEST:
        raise ConfigError(
            f"{source.spec.name} is too large for one ONNX file",
            where="--to onnx",
            why=f"its weights are {size / 2**30:.1f} GiB, and protobuf ends at 2 GiB",
            fix="--to safetensors",
        )


def _entry(draft: Draft, source: Source, layout: Layout, raw: bool) -> str:
    """From what the caller gives to network input (N, C, H, W)."""
    x = INPUT
    if layout == "nhwc":
        x = draft.emit("Transpose", [x], "input:nchw", perm=[0, 3, 1, 2])
    how = source.preprocessing
    if not raw or how is None:
        return x
    if how.pixels == "uint8":
        x = draft.emit("Cast", [x], "input:float", to=1)  # TensorProto.FLOAT
    if not how.is_identity:
        mean, factor = (constant.reshape(-1, 1, 1) for constant in how.constants)
        x = draft.emit("Sub", [x, draft.constant("input:mean", mean)], "input:centred")
        x = draft.emit("Mul", [x, draft.constant("input:factor", factor)], "input:normalised")
    if how.kept[2] != how.input[2]:
        x = draft.emit("Concat", [x] * how.input[2], "input:repeated", axis=1)
    return x


def _write(draft: Draft, g: Graph, end: Value) -> None:
    """Append every node that ``end`` depends on. A bias becomes an input of the convolution or fc before it."""
    needed = _behind(g, end)
    readers = count_readers(g)
    makers = {v: n for n in needed for v in n.outs}
    for n in (n for n in needed if n.op == "bias"):
        before = makers.get(n.ins[0])
        linear = before is not None and before.op in ("conv2d", "conv2d_dx", "matmul")
        if before is not None and linear and readers[before.out] == 1 and before.out is not end:
            draft.biases[before.out] = n
    absorbed = {id(n) for n in draft.biases.values()}
    for n in needed:
        if id(n) in absorbed:
            continue
        if n.op not in RULES:
            raise ConfigError(
                f"{n.op} has no form in ONNX",
                path=n.path,
                why="it is the op of an installed package, and this version writes cnnforge's own alone",
                fix="--to safetensors",
            )
        name = RULES[n.op](draft, n)
        draft.names[n.out] = name
        if n.out in draft.biases:
            draft.names[draft.biases[n.out].out] = name


def _behind(g: Graph, end: Value) -> list[Node]:
    """The nodes that ``end`` depends on, in running order."""
    wanted, found = {end}, []
    for n in reversed(g.nodes):
        if any(v in wanted for v in n.outs):
            wanted.update(n.ins)
            found.append(n)
    return found[::-1]


def _dims(shape: Shape, layout: Layout) -> list[int | str]:
    if len(shape) == 3 and layout == "nchw":
        shape = (shape[2], shape[0], shape[1])
    return [BATCH, *shape]


def _about(source: Source, layout: Layout, raw: bool) -> dict[str, str]:
    """What the file says of itself beside the graph."""
    about = {MODEL: source.spec.name, LAYOUT: layout, TAKES: PIXELS if raw else NORMALISED}
    if source.classes:
        about[CLASSES] = json.dumps(list(source.classes))
    if source.preprocessing is not None:
        about[PREPROCESSING] = json.dumps(source.preprocessing.to_dict())
    return about


def as_given(x: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """(N, H, W, C) -> what a file of this layout takes; vectors stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout == "nchw" and x.ndim == 4 else x
