"""``conv_transpose``: a convolution the other way, from few positions to many; bias, activation."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.activation import Ending, apply, default_init
from cnnforge.blocks.base import Param, WeightedBlock, volume
from cnnforge.blocks.conv import PaddingField, group_outline, require_groups
from cnnforge.fields import Bool, NonNegativeInt, PositiveInt, Size
from cnnforge.init import AnyInit, Zeros
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Shape, Window, count, pair, transposed_window


class ConvTranspose(WeightedBlock):
    """Every input position adds its multiple of ``filters`` kernels to the output.  x: (H, W, C) -> (OH, OW, F).

    It is what leads a gradient back through a ``conv`` (Zeiler et al., CVPR 2010; Dumoulin and Visin, 2016), so its
    weights are laid out as those of the convolution from its output to its input, ``w: (KH, KW, F/groups, C)``, and
    ``b: (F,)``. OH = (H - 1)*stride - top - bottom + dilation*(KH - 1) + 1 + output_padding, as in PyTorch;
    ``padding: same`` gives H*stride, as in Keras. ``flip: true`` turns the kernel by 180 degrees.

    filters: number of output channels
    kernel: height and width of the window
    stride: how far apart the inputs' windows lie in the output
    padding: rows and columns cut from the output: ``valid`` none; ``same`` gives H*stride; else a width for all sides,
        or (top, bottom, left, right)
    dilation: distance between the kernel's taps
    groups: parts of the channels that see only themselves
    flip: turn the kernel by 180 degrees
    bias: add one number per filter
    activation: what the result goes through
    init: how the weights begin; He's scale before a rectifier, Glorot's otherwise
    bias_init: how the bias begins
    output_padding: rows and columns more at the bottom and right, fewer than stride or dilation
    """

    type: Literal["conv_transpose"]
    filters: PositiveInt
    kernel: Size
    stride: Size = 1
    padding: PaddingField = "valid"
    output_padding: NonNegativeInt | tuple[NonNegativeInt, NonNegativeInt] = 0
    dilation: Size = 1
    groups: PositiveInt = 1
    flip: Bool = False
    bias: Bool = True
    activation: Ending = "none"
    init: AnyInit | None = None
    bias_init: AnyInit = Zeros(type="zeros")

    def window(self, x: Shape) -> Window:
        h, w, _ = volume(x, "conv_transpose")
        return transposed_window(
            (h, w),
            pair(self.kernel),
            pair(self.stride),
            self.padding,
            pair(self.dilation),
            pair(self.output_padding),
        )

    def output(self, x: Shape) -> Shape:
        *_, c = volume(x, "conv_transpose")
        require_groups(self.groups, c, self.filters)
        return *self.window(x).out, self.filters

    def params(self, x: Shape) -> dict[str, Param]:
        kh, kw = pair(self.kernel)
        rows, columns = pair(self.stride)
        filters = self.filters // self.groups
        # On average a stride's share of the kernel's positions meets an input.
        met = max(1, kh * kw * (x[2] // self.groups) // (rows * columns))
        w = Param((kh, kw, filters, x[2]), self.init or default_init(self.activation), (met, kh * kw * filters))
        return {"w": w, "b": Param((self.filters,), self.bias_init)} if self.bias else {"w": w}

    def macs(self, x: Shape) -> int:
        kh, kw = pair(self.kernel)
        return kh * kw * (self.filters // self.groups) * count(x)

    def outline(self, x: Shape) -> str:
        parts: list[str] = [self.activation] if self.activation != "none" else []
        parts += [group_outline(self.groups)] if self.groups > 1 else []
        parts += ["flip"] if self.flip else []
        parts += ["no bias"] if not self.bias else []
        return ", ".join(parts)

    def lower(self, g: Graph, x: Value) -> Value:
        shape = g.sample_shape(x)
        win, y = self.window(shape).forward((shape[0], shape[1])), self.output(shape)
        p = self.declare(g, x)
        v = g.emit("conv2d_dx", x, p["w"], out=y, window=win, groups=self.groups, flip=self.flip)
        if self.bias:
            v = g.emit("bias", v, p["b"], out=y)
        return apply(g, v, self.activation)
