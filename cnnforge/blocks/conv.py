"""``conv``: 2-D convolution, bias, activation."""

from __future__ import annotations

from math import gcd
from typing import Literal

from cnnforge.blocks.activation import Ending, apply, default_init
from cnnforge.blocks.base import Param, WeightedBlock, volume
from cnnforge.errors import ShapeError
from cnnforge.fields import Bool, NonNegativeInt, PositiveInt, Size
from cnnforge.init import AnyInit, Zeros
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape, Window, count, pair, window

PaddingField = (
    Literal["valid", "same"] | NonNegativeInt | tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt]
)


class Conv(WeightedBlock):
    """Slide ``filters`` kernels over the input and add a bias.  x: (H, W, C) -> (OH, OW, F).

    ``w: (KH, KW, C/groups, F)``, ``b: (F,)``. This is cross-correlation, as everywhere in the field;
    ``flip: true`` turns the kernel by 180 degrees, which makes it the textbook's convolution.

    filters: number of output channels
    kernel: height and width of the window
    stride: how far the window moves at a time
    padding: ``valid`` none; ``same`` keeps ceil(size / stride), the odd row or column at the end; else a width for all
        sides, or (top, bottom, left, right)
    dilation: distance between the kernel's taps
    groups: parts of the channels that see only themselves; as many as channels makes it depthwise
    flip: turn the kernel by 180 degrees
    bias: add one number per filter
    activation: what the result goes through
    init: how the weights begin; He's scale before a rectifier, Glorot's otherwise
    bias_init: how the bias begins
    """

    type: Literal["conv"]
    filters: PositiveInt
    kernel: Size
    stride: Size = 1
    padding: PaddingField = "valid"
    dilation: Size = 1
    groups: PositiveInt = 1
    flip: Bool = False
    bias: Bool = True
    activation: Ending = "none"
    init: AnyInit | None = None
    bias_init: AnyInit = Zeros(type="zeros")

    def window(self, x: Shape) -> Window:
        h, w, _ = volume(x, "conv")
        return window((h, w), pair(self.kernel), pair(self.stride), self.padding, pair(self.dilation))

    def output(self, x: Shape) -> Shape:
        *_, c = volume(x, "conv")
        for name, channels in (("input channels", c), ("filters", self.filters)):
            if channels % self.groups:
                common = gcd(c, self.filters)
                fits = next(g for g in range(min(self.groups, common), 0, -1) if common % g == 0)
                raise ShapeError(
                    f"{channels} {name} cannot be divided into {self.groups} groups",
                    why=f"{channels} % {self.groups} = {channels % self.groups}, must be 0",
                    fix=f"groups: {fits}, or {name} a multiple of {self.groups}",
                )
        return *self.window(x).out, self.filters

    def params(self, x: Shape) -> dict[str, Param]:
        kh, kw = pair(self.kernel)
        c = x[2] // self.groups
        fan = kh * kw * c, kh * kw * self.filters // self.groups
        w = Param((kh, kw, c, self.filters), self.init or default_init(self.activation), fan)
        return {"w": w, "b": Param((self.filters,), self.bias_init)} if self.bias else {"w": w}

    def macs(self, x: Shape) -> int:
        kh, kw = pair(self.kernel)
        return kh * kw * (x[2] // self.groups) * count(self.output(x))

    def outline(self, x: Shape) -> str:
        parts: list[str] = [self.activation] if self.activation != "none" else []
        parts += [f"groups {self.groups}"] if self.groups > 1 else []
        parts += ["flip"] if self.flip else []
        parts += ["no bias"] if not self.bias else []
        return ", ".join(parts)

    def lower(self, g: Graph, x: Value) -> Value:
        shape = g.sample_shape(x)
        win, y = self.window(shape), self.output(shape)
        p = self.declare(g, x)
        v = g.emit("conv2d", x, p["w"], out=y, window=win, groups=self.groups, flip=self.flip)
        if self.bias:
            v = g.emit("bias", v, p["b"], out=y)
        return apply(g, v, self.activation)
