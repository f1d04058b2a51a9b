"""``conv``: 2-D convolution, bias, activation."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any, ClassVar, Literal

from pydantic import model_validator

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


def require_groups(groups: int, c: int, filters: int) -> None:
    """Raise ShapeError where ``groups`` does not divide the input channels and the filters."""
    for name, channels in (("input channels", c), ("filters", filters)):
        if channels % groups:
            common = gcd(c, filters)
            fits = next(g for g in range(min(groups, common), 0, -1) if common % g == 0)
            raise ShapeError(
                f"{channels} {name} cannot be divided into {groups} groups",
                why=f"{channels} % {groups} = {channels % groups}, must be 0",
                fix=f"groups: {fits}, or {name} a multiple of {groups}",
            )


def group_outline(groups: int | str) -> str:
    """``groups 4``, or ``depthwise``."""
    return groups if isinstance(groups, str) else f"groups {groups}"


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
    groups: how many parts the channels fall into, each with its own filters (Krizhevsky et al., 2012); ``depthwise``
        gives every input channel its own (Chollet, CVPR 2017), and ``filters`` may then be left out: one per channel
    flip: turn the kernel by 180 degrees
    bias: add one number per filter
    activation: what the result goes through
    init: how the weights begin; He's scale before a rectifier, Glorot's otherwise
    bias_init: how the bias begins
    """

    excused: ClassVar[Mapping[str, tuple[str, str]]] = {"filters": ("groups", "depthwise")}
    type: Literal["conv"]
    filters: PositiveInt | None
    kernel: Size
    stride: Size = 1
    padding: PaddingField = "valid"
    dilation: Size = 1
    groups: PositiveInt | Literal["depthwise"] = 1
    flip: Bool = False
    bias: Bool = True
    activation: Ending = "none"
    init: AnyInit | None = None
    bias_init: AnyInit = Zeros(type="zeros")

    @model_validator(mode="before")
    @classmethod
    def _depthwise_counts_its_filters(cls, fields: Any) -> Any:
        """Without depthwise, pydantic says that ``filters`` is missing as it says it of any field.

        What is no number under ``groups``, or ``depthwise`` under another key, is a mistake by itself.
        """
        if isinstance(fields, Mapping):
            groups = next((value for key, value in fields.items() if key == "groups" or value == "depthwise"), 1)
            if not isinstance(groups, int):
                return {"filters": None, **fields}
        return fields

    @model_validator(mode="after")
    def _filters_are_counted(self) -> Conv:
        if self.filters is None and self.groups != "depthwise":
            raise ValueError("filters may be null only with groups: depthwise")
        return self

    def window(self, x: Shape) -> Window:
        h, w, _ = volume(x, "conv")
        return window((h, w), pair(self.kernel), pair(self.stride), self.padding, pair(self.dilation))

    def division(self, x: Shape) -> tuple[int, int]:
        """(groups, filters). Raises ShapeError where the channels cannot be divided so."""
        *_, c = volume(x, "conv")
        filters = self.filters or c
        if self.groups == "depthwise":
            if filters % c:
                raise ShapeError(
                    f"{filters} filters are not the same number for each of {c} input channels",
                    why=f"groups: depthwise, and {filters} % {c} = {filters % c}, must be 0",
                    fix=f"filters: {max(1, round(filters / c)) * c}, or leave filters out for one per channel",
                )
            return c, filters
        require_groups(self.groups, c, filters)
        return self.groups, filters

    def output(self, x: Shape) -> Shape:
        _, filters = self.division(x)
        return *self.window(x).out, filters

    def params(self, x: Shape) -> dict[str, Param]:
        kh, kw = pair(self.kernel)
        groups, filters = self.division(x)
        c = x[2] // groups
        fan = kh * kw * c, kh * kw * filters // groups
        w = Param((kh, kw, c, filters), self.init or default_init(self.activation), fan)
        return {"w": w, "b": Param((filters,), self.bias_init, fan)} if self.bias else {"w": w}

    def macs(self, x: Shape) -> int:
        kh, kw = pair(self.kernel)
        return kh * kw * (x[2] // self.division(x)[0]) * count(self.output(x))

    def outline(self, x: Shape) -> str:
        parts: list[str] = [self.activation] if self.activation != "none" else []
        parts += [group_outline(self.groups)] if self.groups != 1 else []
        parts += ["flip"] if self.flip else []
        parts += ["no bias"] if not self.bias else []
        return ", ".join(parts)

    def lower(self, g: Graph, x: Value) -> Value:
        shape = g.sample_shape(x)
        win, y = self.window(shape), self.output(shape)
        p = self.declare(g, x)
        v = g.emit("conv2d", x, p["w"], out=y, window=win, groups=self.division(shape)[0], flip=self.flip)
        if self.bias:
            v = g.emit("bias", v, p["b"], out=y)
        return apply(g, v, self.activation)
