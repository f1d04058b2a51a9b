"""What an op is beside its name, and the ops that installed packages add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnforge import plugins
from cnnforge.ir.graph import Graph, Node, Value

#: Is a gradient of this value wanted?
Wants = Callable[[Value], bool]
Grads = tuple[Value | None, ...]
#: A backward rule, see ``cnnforge.ir.vjp``.
Rule = Callable[[Graph, Node, Grads, Wants], Grads]


@dataclass(frozen=True, slots=True)
class Scratch:
    """Workspace that a kernel needs while it runs. ``shape`` has the batch axis first where ``batched``."""

    shape: tuple[int, ...]
    dtype: str
    batched: bool = True


@dataclass(frozen=True, slots=True)
class Op:
    """An op of an installed package, for a block, a loss or an optimizer that needs arithmetic of its own.

    Its name is that of its entry point in ``cnnforge.ops``; a gradient's op is one more.

    numpy:   the kernel, as ``package.module:function``: text, so that checking a config imports no NumPy
    rule:    the backward rule (see ``cnnforge.ir.vjp``); None for what no gradient goes through, such as an update
    scratch: ``(ins, outs, attrs) -> workspace``, in the order in which the kernel takes it
    inplace: index of the input whose memory the first output may take over
    """

    numpy: str
    rule: Rule | None = None
    scratch: Callable[[tuple[Value, ...], tuple[Value, ...], Mapping[str, Any]], tuple[Scratch, ...]] | None = None
    inplace: int | None = None


def added_ops(shipped: frozenset[str] = frozenset()) -> dict[str, Op]:
    """The ops that installed packages add, by name. ``shipped``: names that they may not take."""
    return plugins.objects(plugins.OPS, Op, shipped)
