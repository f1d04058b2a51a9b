"""An ONNX file as plain Python: nodes, constants and names, checked and within limits. The only door on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import BackendError, CheckpointError, suggest

#: What a protobuf may hold.
LARGEST = (1 << 31) - 1
#: Older files say too many things in other ways.
OLDEST_OPSET = 7
#: Attributes that hold whole graphs: loops and branches.
_GRAPHS = (5, 10)  # AttributeProto.GRAPH, GRAPHS


@dataclass(frozen=True)
class OnnxNode:
    """``outs = op(*ins, **attrs)``; an input that is left out is an empty name. ``shown``: how messages call it."""

    op: str
    ins: tuple[str, ...]
    outs: tuple[str, ...]
    attrs: Mapping[str, Any]
    name: str

    def attr(self, name: str, default: Any) -> Any:
        """An attribute, or what ONNX takes it for where it is not said."""
        return self.attrs.get(name, default)

    @property
    def shown(self) -> str:
        return self.name or self.outs[0]


@dataclass(frozen=True)
class OnnxGraph:
    """One input, one output, and what lies between.

    size: the input's axes behind the batch; None for one that the file leaves open
    batch: the batch that the file is made for; None where any will do
    nodes: only those that the output depends on, in running order
    about: what the file says of itself: metadata_props
    pixels: does it take whole numbers from 0 to 255?
    """

    path: Path
    input: str
    size: tuple[int | None, ...]
    batch: int | None
    output: str
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, NDArray[Any]]
    opset: int
    about: Mapping[str, str]
    pixels: bool


def read(path: Path, output: str | None = None) -> tuple[OnnxGraph, bytes]:
    """The file's graph and its bytes. output: which one, where there are several

    Raises CheckpointError where it cannot be read or holds what no network of ours can be, BackendError where the
    package ``onnx`` is not installed.
    """
    try:
        import onnx
        import onnx.inliner
    except ImportError:
        raise BackendError(
            "ONNX files need the package onnx", where=str(path), why="it is not installed here",
            fix="pip install 'cnnforge[onnx]'",
        ) from None  # fmt: skip
    content = _content(path)
    try:
        model = onnx.load_model_from_string(content)
        _refuse_external(model, path)
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        return _graph(onnx, model, path, output), content
    except CheckpointError:
        raise
    except Exception as error:  # protobuf's and onnx's own classes, and what they stumble over
        raise CheckpointError(
            f"{path.name} is not a whole ONNX file",
            where=str(path),
            why=(str(error).splitlines() or [type(error).__name__])[0],
            fix="the file as its exporter wrote it",
        ) from None


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise CheckpointError(
                f"{path.name} is too large",
                where=str(path),
                why=f"{size / 2**30:.1f} GiB; an ONNX file in one piece has at most 2",
                fix="a smaller network, or weights of float16",
            )
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read", where=str(path), why=error.strerror or str(error), fix="the path of an ONNX file"
        ) from None


def _refuse_external(model: Any, path: Path) -> None:
    """Weights beside the file would be read from wherever it says."""
    outside = [t.name for t in model.graph.initializer if t.data_location]
    if outside:
        raise CheckpointError(
            f"{path.name} keeps its weights in other files",
            where=str(path),
            why=f"{outside[0]} and {len(outside) - 1} more are external data, which is not followed",
            fix=f"one file: python -c \"import onnx; onnx.save(onnx.load('{path.name}'), 'whole.onnx')\"",
        )


def _graph(onnx: Any, model: Any, path: Path, output: str | None) -> OnnxGraph:
    graph = model.graph
    opset = max((s.version for s in model.opset_import if s.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise _not_ours(path, f"its opset is {opset}", f"opset {OLDEST_OPSET} is the oldest that is read",
                        "export it anew, or onnx.version_converter")  # fmt: skip
    if graph.sparse_initializer:
        raise _not_ours(path, "it holds sparse weights", "layers have dense ones", "export it with dense weights")
    constants = {t.name: plain(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in constants]
    outputs = [v.name for v in graph.output]
    if len(inputs) != 1:
        named = ", ".join(v.name for v in inputs)
        raise _not_ours(path, f"it has {len(inputs)} inputs: {named}", "a network here takes pictures and nothing else",
                        "export the part that takes the pictures")  # fmt: skip
    if output is None and len(outputs) != 1:
        raise _not_ours(path, f"it has {len(outputs)} outputs: {', '.join(outputs)}",
                        "a network here has one", f"--output {outputs[0]}")  # fmt: skip
    if output is not None and output not in outputs:
        raise _not_ours(path, f"it has no output {output}", f"its outputs are {', '.join(outputs)}",
                        suggest(output, outputs) or f"--output {outputs[0]}")  # fmt: skip
    chosen = output or outputs[0]
    kind = inputs[0].type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
    nodes = _needed(onnx, graph, chosen, path)
    return OnnxGraph(
        path, inputs[0].name, tuple(dims[1:]), dims[0] if dims else None, chosen, nodes, constants, opset,
        {p.key: p.value for p in model.metadata_props}, kind.elem_type == onnx.TensorProto.UINT8,
    )  # fmt: skip


def _needed(onnx: Any, graph: Any, output: str, path: Path) -> tuple[OnnxNode, ...]:
    """The nodes behind ``output``."""
    wanted, found = {output}, []
    for n in reversed(graph.node):
        if not wanted.intersection(n.output):
            continue
        if any(a.type in _GRAPHS for a in n.attribute):
            raise _not_ours(path, f"{n.name or n.output[0]} is a {n.op_type}", "a network here has no loops and no ifs",
                            "export it with fixed sizes, traced rather than scripted")  # fmt: skip
        op = n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.op_type}"
        attrs = {a.name: _attribute(onnx, a) for a in n.attribute}
        found.append(OnnxNode(op, tuple(n.input), tuple(n.output), attrs, n.name))
        wanted.update(n.input)
    return tuple(reversed(found))


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return plain(onnx.numpy_helper.to_array(value)) if isinstance(value, onnx.TensorProto) else value


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Floats of any width as float32, which is what networks are trained in; the rest as it is."""
    floats = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if floats and array.dtype != np.float32 else array


def _not_ours(path: Path, what: str, why: str, fix: str) -> CheckpointError:
    return CheckpointError(f"{path.name} cannot become a network: {what}", where=str(path), why=why, fix=fix)
