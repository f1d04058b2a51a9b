"""``pool``: the largest or the mean value of each window; ``global_pool``: of the whole picture."""

from __future__ import annotations

from typing import Literal

from cnnforge.blocks.base import Block, volume
from cnnforge.blocks.conv import PaddingField
from cnnforge.errors import ShapeError
from cnnforge.fields import Bool, Size
from cnnforge.ir.graph import Graph, Value
from cnnforge.shapes import Pair, Shape, Window, pair, window

Mode = Literal["max", "average"]


def _emit(g: Graph, x: Value, y: Shape, mode: Mode, win: Window, count_include_pad: bool) -> Value:
    if mode == "average":
        return g.emit("average_pool2d", x, out=y, window=win, count_include_pad=count_include_pad)
    out = g.act("max_pool2d", y)
    # Which position of the window won, for the way back: one byte where the window has at most 256 positions.
    taps = win.kernel[0] * win.kernel[1]
    winner = g.act("max_pool2d.winner", y, dtype="uint8" if taps <= 256 else "int32")
    g.node("max_pool2d", (x,), (out, winner), window=win)
    return out


class Pool(Block):
    """Max or average over windows.  x: (H, W, C) -> (OH, OW, C).

    kernel: height and width of the window
    padding: as of conv; nothing in it is ever the largest
    mode: the largest or the mean value of each window
    stride: the kernel's size where not given, so that windows do not overlap
    ceil_mode: round the output size up instead of down
    count_include_pad: whether zeros of the padding count in an average
    """

    type: Literal["pool"]
    kernel: Size
    stride: Size | None = None
    padding: PaddingField = "valid"
    mode: Mode = "max"
    ceil_mode: Bool = False
    count_include_pad: Bool = False

    def window(self, x: Shape) -> Window:
        h, w, _ = volume(x, "pool")
        kernel: Pair = pair(self.kernel)
        stride = pair(self.stride) if self.stride is not None else kernel
        win = window((h, w), kernel, stride, self.padding, (1, 1), self.ceil_mode)
        if max(win.pads[:2]) >= kernel[0] or max(win.pads[2:]) >= kernel[1]:
            raise ShapeError(
                f"pool padding {win.pads} is as wide as its {kernel[0]}x{kernel[1]} window",
                why="a window that lies in the padding altogether has no maximum and no mean",
                fix=f"padding of at most {min(kernel) - 1}, or a larger kernel",
            )
        return win

    def output(self, x: Shape) -> Shape:
        return *self.window(x).out, volume(x, "pool")[2]

    def outline(self, x: Shape) -> str:
        return self.mode + (", ceil" if self.ceil_mode else "")

    def lower(self, g: Graph, x: Value) -> Value:
        shape = g.sample_shape(x)
        return _emit(g, x, self.output(shape), self.mode, self.window(shape), self.count_include_pad)


class GlobalPool(Block):
    """Max or average over the whole height and width.  x: (H, W, C) -> (1, 1, C)  (Lin et al., ICLR 2014).

    mode: the largest or the mean value of each channel
    """

    type: Literal["global_pool"]
    mode: Mode = "average"

    def output(self, x: Shape) -> Shape:
        return 1, 1, volume(x, "global_pool")[2]

    def window(self, x: Shape) -> Window:
        h, w, _ = volume(x, "global_pool")
        return window((h, w), (h, w), (1, 1), "valid")

    def outline(self, x: Shape) -> str:
        return self.mode

    def lower(self, g: Graph, x: Value) -> Value:
        shape = g.sample_shape(x)
        return _emit(g, x, self.output(shape), self.mode, self.window(shape), True)
