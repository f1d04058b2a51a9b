"""The graph: values of static shape, nodes that name an op. No arrays, no devices.

A graph is built once per (spec, batch, mode). Nodes are appended in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from cnnforge.errors import Path
from cnnforge.ir.precision import PRECISIONS, Precision

#: input      what the caller writes: images and labels
#: param      learned or fixed weights (flat buffer ``params``)
#: state      kept but not learned: running statistics (flat buffer ``state``)
#: act        activations and their gradients (the arena)
#: grad       gradients of trainable parameters (flat buffer ``grads``)
#: flat       a range of a flat buffer, as the optimizer sees it (see ``FlatRange``)
#: step       the step block and what lies beside it (see ``STEP_FIELDS``, ``DEVICE_FIELDS``)
Kind = Literal["input", "param", "state", "act", "grad", "flat", "step"]

#: forward  the model;  output: what only ``forward()`` and ``predict()`` want, not the loss
#: loss, backward, update: as they say;  gather: adds a batch's gradients to those of the batches before it
Phase = Literal["forward", "output", "loss", "backward", "gather", "update"]

#: What changes from step to step, as one float64 vector that kernels read: optimizer step counter (from 1), draw step
#: (dropout's counter, from 0), first global sample index of this batch, learning rate, 1 / samples, two scalars that
#: the optimizer defines (Adam: the bias corrections), and the share of itself that an average of the weights keeps.
STEP_FIELDS = ("step", "draw", "first", "lr", "inv_n", "c1", "c2", "keep")

#: What a device itself keeps from step to step, as one float64 vector beside the step block, in the graphs that have
#: it: the loss scale, the updates since it last changed, whether this update is left out (0: no), the number of the
#: first step whose loss was not finite (0: none), and the sums of losses and hits since they were last taken.
DEVICE_FIELDS = ("scale", "since", "skip", "stopped", "loss", "hits")

#: The slot in which gradients are added up over several batches.
GATHERED = "gathered"

DTYPE_BYTES: Mapping[str, int] = {
    "bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "int64": 8, "int32": 4, "uint64": 8, "uint32": 4,
    "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor that does not exist yet. ``shape`` has the batch axis first where ``batched``."""

    id: int
    name: str
    shape: tuple[int, ...]
    kind: Kind
    dtype: str
    batched: bool

    @property
    def nbytes(self) -> int:
        """Bytes at the planned (largest) batch."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """``outs = op(*ins, **attrs)``; ``path`` is the place in the YAML that asked for it.

    paths: of each part, where it is made of several (see ``plan.fuse``)
    """

    op: str
    ins: tuple[Value, ...]
    outs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    phase: Phase
    path: Path
    paths: tuple[Path, ...] = ()

    @property
    def out(self) -> Value:
        """The first output, for the many ops that have one."""
        return self.outs[0]


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A weight tensor and how it begins. ``fan``: (inputs, outputs) per unit, for the initialisers that scale by it."""

    value: Value
    init: Any
    trainable: bool
    fan: tuple[int, int]


def is_vector(p: Parameter) -> bool:
    """Is it a bias, or one number per channel as norms have, rather than a weight?"""
    return len(p.value.shape) < 2


@dataclass(frozen=True, slots=True)
class FlatRange:
    """Where a ``flat`` value lies: in ``buffer``, over ``names`` side by side; ``slot``: whose slots these are."""

    buffer: Literal["params", "grads", "slots"]
    names: tuple[str, ...]
    slot: str = ""


@dataclass
class Graph:
    """Values and nodes under construction.

    batch: the largest number of samples;  precision: one of ``PRECISIONS``
    training: dropout drops, batch_norm uses the batch's own statistics
    frozen: parameters that the run does not train, beside those that never are; they get no gradient
    """

    batch: int
    precision: str
    training: bool
    seed: int = 0
    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    params: dict[str, Parameter] = field(default_factory=dict)
    state: dict[str, tuple[Value, float]] = field(default_factory=dict)
    grads: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    flat: dict[Value, FlatRange] = field(default_factory=dict)
    scope: str = ""
    path: Path = ()
    phase: Phase = "forward"
    _step: Value | None = None
    _on_device: Value | None = None

    @property
    def numbers(self) -> Precision:
        """What activations and weights are computed in."""
        return PRECISIONS[self.precision]

    @property
    def dtype(self) -> str:
        """Of parameters, and of every value that says nothing else until ``narrowed`` makes activations smaller."""
        return self.numbers.weights

    def value(
        self, name: str, shape: tuple[int, ...], kind: Kind, dtype: str | None = None, batched: bool = False
    ) -> Value:
        """A new value; ``shape`` is the whole shape, batch axis included where ``batched``."""
        v = Value(len(self.values), name, tuple(shape), kind, dtype or self.dtype, batched)
        self.values.append(v)
        return v

    def input(self, name: str, shape: tuple[int, ...], dtype: str | None = None) -> Value:
        """An input of ``shape`` per sample."""
        self.inputs[name] = self.value(name, (self.batch, *shape), "input", dtype, batched=True)
        return self.inputs[name]

    def param(self, name: str, shape: tuple[int, ...], init: Any, trainable: bool, fan: tuple[int, int]) -> Value:
        """A parameter of the layer being lowered; its full name is ``layer.name``."""
        v = self.value(f"{self.scope}.{name}", shape, "param")
        self.params[v.name] = Parameter(v, init, trainable, fan)
        return v

    def running(self, name: str, shape: tuple[int, ...], start: float) -> Value:
        """Running state of the layer being lowered, filled with ``start``."""
        v = self.value(f"{self.scope}.{name}", shape, "state")
        self.state[v.name] = (v, start)
        return v

    def step(self) -> Value:
        """The step block."""
        if self._step is None:
            self._step = self.value("step", (len(STEP_FIELDS),), "step", "float64")
        return self._step

    def on_device(self) -> Value:
        """What the device keeps beside the step block."""
        if self._on_device is None:
            self.step()
            self._on_device = self.value("device", (len(DEVICE_FIELDS),), "step", "float64")
        return self._on_device

    def act(self, name: str, shape: tuple[int, ...], dtype: str | None = None) -> Value:
        """A batch-carrying value of ``shape`` per sample."""
        return self.value(f"{self.scope}.{name}", (self.batch, *shape), "act", dtype, batched=True)

    def like(self, v: Value, name: str = "", kind: Kind = "act") -> Value:
        """A new value of ``v``'s shape and type: what a gradient is."""
        return self.value(name or f"d({v.name})", v.shape, kind, v.dtype, v.batched)

    def node(self, op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], **attrs: Any) -> Node:
        """Append a node."""
        n = Node(op, ins, outs, attrs, self.phase, self.path)
        self.nodes.append(n)
        return n

    def emit(self, op: str, *ins: Value, out: tuple[int, ...], **attrs: Any) -> Value:
        """Append ``op(*ins)`` with one batch-carrying output of shape ``out`` per sample; return that output."""
        y = self.act(op, out)
        self.node(op, ins, (y,), **attrs)
        return y

    def laid_out(self) -> list[str]:
        """Parameters in the order of the flat buffers: trainable ones first, weights before vectors (biases, gamma).

        The model alone decides it, so that plans of different optimizers share one buffer.
        """
        return sorted(self.params, key=lambda name: (not self.params[name].trainable, is_vector(self.params[name])))

    def sample_shape(self, v: Value) -> tuple[int, ...]:
        """``v``'s shape without the batch axis."""
        return v.shape[1:]
