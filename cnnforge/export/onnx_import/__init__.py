"""An ONNX file as a network of ours: blocks that people can edit, and the weights for them.

``read`` opens the file, ``constants`` computes what is known beforehand, ``rules``, ``norms`` and ``views`` turn node
after node into layers of a ``net``, ``functions`` recognises activations, ``tidy`` brings it all to the form that a
person would write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.errors import CheckpointError
from cnnforge.export.onnx_import import norms, views
from cnnforge.export.onnx_import.constants import FOLDS, TooLarge, fold
from cnnforge.export.onnx_import.net import INPUT, Flow, Net, Refused, Tensor
from cnnforge.export.onnx_import.read import OnnxGraph, OnnxNode, read
from cnnforge.export.onnx_import.rules import RULES, Input, Reading, tensor
from cnnforge.export.onnx_import.tidy import arrays, tidy, written
from cnnforge.shapes import Shape

#: Stands for any number of samples: prime, so that no other size is taken for it.
_MANY = 1_000_003
_AS_WRITTEN = "the file as its exporter wrote it"


@dataclass(frozen=True)
class Imported:
    """What became of a file.

    input:  (H, W, C);  layers: blocks by name, as under ``model.layers``;  arrays: parameters and running state by name
    channels_last: does the file take (N, H, W, C)?  pixels: does it take whole numbers from 0 to 255?
    batch:  the number of samples that the file is made for; None where any will do
    output: the name of the output that was taken;  about: what the file says of itself;  content: its bytes
    """

    input: Shape
    layers: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, NDArray[Any]]
    channels_last: bool
    batch: int | None
    output: str
    about: Mapping[str, str]
    content: bytes
    pixels: bool


def from_onnx(path: Path, size: tuple[int, int] | None = None, output: str | None = None) -> Imported:
    """Read a network. size: (height, width) where the file leaves them open;  output: which, where it has several

    Raises CheckpointError, with the node's name and op, for what cannot become a layer.
    """
    graph, content = read(path, output)
    last = _channels_last(graph)
    net = Net(_size(graph, size, last))
    r = Reading(net, graph.opset, graph.batch or _MANY)
    known: dict[str, Input] = {"": None, **graph.constants, graph.input: Flow(INPUT, "nhwc" if last else "nchw")}
    _refuse_unknown(graph)
    for n in graph.nodes:
        try:
            known[n.outs[0]] = _result(r, n, known)
        except Refused as refused:
            raise _refusal(path, n, refused) from None
    end = _end(net, graph, known)
    layers = tidy(net.layers, end.layer)
    return Imported(
        net.size, written(layers), arrays(layers), last, graph.batch, graph.output, graph.about, content,
        graph.pixels,
    )  # fmt: skip


def _result(r: Reading, n: OnnxNode, known: Mapping[str, Input]) -> Tensor | NDArray[Any]:
    """What a node gives: a constant where all that it reads is known."""
    for name in n.ins:
        if name not in known:
            raise Refused(f"it reads {name}, a second output of another node", "nodes of which one output is used")
    ins: Sequence[Input] = [known[name] for name in n.ins]
    if n.op in ("Shape", "Size"):
        return _shape(r, n, ins)
    if all(x is None or isinstance(x, np.ndarray) for x in ins):
        try:
            made = fold(n, [x if isinstance(x, np.ndarray) else None for x in ins])
        except TooLarge:
            raise Refused("it makes a constant of more than a gigabyte", "a smaller one") from None
        except (ValueError, IndexError, TypeError, KeyError, ArithmeticError) as error:
            raise Refused(f"its constants do not go together: {error}", _AS_WRITTEN) from None
        if made is None:
            raise Refused("it computes with constants alone, in a way that is not known here", "constants in its place")
        return made
    if n.op not in RULES:
        raise Refused(
            f"it takes {n.op} of what the network computes", "whole pictures and whole vectors from layer to layer"
        )
    r.constant_names = [name if isinstance(known[name], np.ndarray) else "" for name in n.ins]
    try:
        return RULES[n.op](r, n, ins)
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        # A file may say anything; what a rule stumbles over is then the file's.
        raise Refused(f"its inputs and attributes do not go together: {error}", _AS_WRITTEN) from None


def _shape(r: Reading, n: OnnxNode, ins: Sequence[Input]) -> NDArray[np.int64]:
    x = ins[0]
    dims = np.array(x.shape if isinstance(x, np.ndarray) else (r.batch, *r.net.dims(tensor(ins))), np.int64)
    if n.op == "Size":
        return np.array(dims.prod(), np.int64)
    return dims[n.attr("start", 0) : n.attr("end", None)]


def _refuse_unknown(graph: OnnxGraph) -> None:
    """All ops that nothing is known of, at once, before anything is computed."""
    unknown = [n for n in graph.nodes if n.op not in RULES and n.op not in FOLDS and n.op not in ("Shape", "Size")]
    if not unknown:
        return
    others = sorted({n.op for n in unknown} - {unknown[0].op})
    also = f"; nor of {', '.join(others)}" if others else ""
    raise _refusal(graph.path, unknown[0], Refused(
        f"there is no layer for a {unknown[0].op} node{also}",
        "export the part of the network before it with --output, or replace it in what it was exported from",
    ))  # fmt: skip


def _refusal(path: Path, n: OnnxNode, refused: Refused) -> CheckpointError:
    n = refused.node or n
    return CheckpointError(
        f"{n.shown} ({n.op}) cannot become a layer", where=str(path), why=refused.why, fix=refused.fix
    )


def _channels_last(graph: OnnxGraph) -> bool:
    """Is the input turned before anything else reads its axes?"""
    names = {graph.input}
    for n in graph.nodes:
        if n.ins and n.ins[0] in names:
            if n.op == "Transpose":
                return list(n.attr("perm", ())) == [0, 3, 1, 2]
            if n.op not in ("Cast", "Sub", "Mul", "Div", "Add", "Identity"):
                return False
            names.update(n.outs)
    return False


def _size(graph: OnnxGraph, size: tuple[int, int] | None, channels_last: bool) -> Shape:
    """(H, W, C) of the input."""
    dims = graph.size
    if len(dims) != 3:
        raise CheckpointError(
            f"{graph.path.name} cannot become a network: its input has {len(dims) + 1} axes",
            where=f"{graph.path} ({graph.input})",
            why="networks here take pictures: samples, channels, height, width",
            fix="a network of pictures",
        )
    h, w, c = dims if channels_last else (dims[1], dims[2], dims[0])
    if size is not None:
        h, w = (h or size[0]), (w or size[1])
    if h is None or w is None or c is None:
        raise CheckpointError(
            f"{graph.path.name} leaves the size of its pictures open",
            where=f"{graph.path} ({graph.input})",
            why="every shape here is known beforehand",
            fix="--size HEIGHT WIDTH" if c is not None else "export it with a fixed number of channels",
        )
    return h, w, c


def _end(net: Net, graph: OnnxGraph, known: Mapping[str, Input]) -> Flow:
    """The output, as what a layer gives in our order."""
    try:
        x = known.get(graph.output)
        flow = net.real(tensor([x]))
        if flow.view not in ("nchw", "nhwc"):
            if flow.view not in ("flat",) and len(net.shape(flow)) > 1:
                raise Refused("it ends with axes in another order than here", "an output before the last Reshape")
            flow = net.vector(flow)
        if flow.view == "flat_chw":
            raise Refused("the elements of its output are in another order than here", "an output before the Flatten")
        if flow.layer == INPUT:
            raise Refused("it computes nothing", "a network with layers")
    except Refused as refused:
        raise _refusal(graph.path, OnnxNode("output", (), (graph.output,), {}, graph.output), refused) from None
    return flow


__all__ = ["Imported", "from_onnx", "norms", "views"]
