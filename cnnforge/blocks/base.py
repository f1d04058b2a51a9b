"""What a block is: its YAML fields, its shape arithmetic, its parameters, its lowering.

Shapes here carry no batch axis. ``x`` is always the input's shape: ``(H, W, C)`` for a volume, ``(F,)`` for a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnforge.errors import ShapeError
from cnnforge.fields import Bool, Name, Reference, Spec
from cnnforge.init import Init
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape, Window


@dataclass(frozen=True, slots=True)
class Param:
    """A weight tensor of a block: its shape, how it begins, and (inputs, outputs) per unit for the initialiser."""

    shape: Shape
    init: Init
    fan: tuple[int, int] = (1, 1)


class Block(Spec):
    """Base of every block.

    after: the layer this one follows, for a layer added on the command line; order in the file otherwise
    input: the layer whose output this one reads; the one before it where not given, ``input`` for the model's own
    """

    type: str
    after: Name | None = None
    input: Reference | None = None

    def reads(self) -> tuple[str | None, ...]:
        """The layers whose outputs this one takes; None stands for the one before it."""
        return (self.input,)

    def output(self, x: Shape, /) -> Shape:
        """The output's shape. Raises ShapeError where the block cannot take ``x``."""
        raise NotImplementedError

    def params(self, x: Shape, /) -> dict[str, Param]:
        """Weights by name, e.g. ``w`` and ``b``."""
        return {}

    def state(self, x: Shape, /) -> dict[str, tuple[Shape, float]]:
        """What is kept but not learned, by name: (shape, value to begin with)."""
        return {}

    def macs(self, x: Shape, /) -> int:
        """Multiply-accumulates for one sample; conv and linear only, as the field counts them."""
        return 0

    def window(self, x: Shape, /) -> Window | None:
        """The sliding window, where the block has one; None where every output sees one input position."""
        return None

    @property
    def frozen(self) -> bool:
        """Are the weights kept as they begin?"""
        return False

    def is_global(self) -> bool:
        """Does every output see every input position?"""
        return False

    def outline(self, x: Shape, /) -> str:
        """What the check table says of this layer beside its shapes, e.g. ``max``."""
        return ""

    def lower(self, g: Graph, x: Value, /) -> Value:
        """Append this block's nodes to ``g``; return the output value."""
        raise NotImplementedError


class WeightedBlock(Block):
    """Base of blocks with weights.

    trainable: false keeps the weights as they begin; they lie outside the gradient buffer
    """

    trainable: Bool = True

    @property
    def frozen(self) -> bool:
        return not self.trainable

    def declare(self, g: Graph, x: Value) -> dict[str, Value]:
        """Create this block's parameters and state in ``g``; return them by short name."""
        shape = g.sample_shape(x)
        values = {n: g.param(n, p.shape, p.init, self.trainable, p.fan) for n, p in self.params(shape).items()}
        return values | {n: g.running(n, s, start) for n, (s, start) in self.state(shape).items()}


def volume(x: Shape, kind: str) -> tuple[int, int, int]:
    """``x`` as (H, W, C), or a ShapeError: a spatial block cannot follow an fc."""
    if len(x) == 3:
        return x[0], x[1], x[2]
    raise ShapeError(
        f"{kind} needs a (height, width, channels) input",
        why="fc and flatten give a vector without height and width",
        fix=f"move this {kind} before the first fc or flatten",
    )
