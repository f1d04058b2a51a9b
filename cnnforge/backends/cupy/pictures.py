"""Batches of input made on the device: stored pictures lie there, or come as they are stored, and kernels do the rest.

What is drawn stays the host's: a pure function of coordinates, 16 to 132 bytes a sample. Nothing here waits: an order
is written into page-locked memory, copied, and followed by the launches that read it. They run one after another, in
order with the steps, so that canvases share workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.backends.base import DRAWN, MIXED, Array, Distortion, Maker, Order, Step
from cnnforge.backends.cupy.device import BLOCK, Device

SOURCE = "pictures"

#: ``Backend.link``
Link = Callable[[Iterable[Step]], list[Step]]

#: Bytes of elastic fields and what they come from; a batch that has more of them is made part by part.
FIELDS = 32 << 20
#: Blocks of one picture at most.
MOST_BLOCKS = 64
#: Parts of an order begin at multiples of so many bytes.
ALIGN = 64


@dataclass(frozen=True)
class Layout:
    """Where the parts of an order of ``n`` samples lie: name -> (offset, shape, dtype); ``nbytes`` in all."""

    parts: Mapping[str, tuple[int, tuple[int, ...], str]]
    nbytes: int


def layout(n: int, drawn: bool, mixed: bool, raw: tuple[int, ...] | None) -> Layout:
    """raw: (H, W, c) where stored pictures come with the order."""
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        "epoch": ((1,), "uint64"), "rows": ((n,), "int64"), "picks": ((n, 2), "int32"),
    }  # fmt: skip
    if drawn:
        wanted["drawn"] = (n, DRAWN), "float32"
    if mixed:
        wanted["mixed"] = (n, MIXED), "float32"
    if raw is not None:
        wanted["raw"] = (n, *raw), "uint8"
    parts, at = {}, 0
    for name, (shape, dtype) in wanted.items():
        parts[name] = at, shape, dtype
        at += -(-prod(shape) * np.dtype(dtype).itemsize // ALIGN) * ALIGN
    return Layout(parts, at)


class DeviceStock:
    """``Backend.stock``: bytes whose channels are the input's, or one that is repeated."""

    def __init__(self, device: Device, x: NDArray[np.uint8], batch: int, stays: bool) -> None:
        self.device, self.x, self.batch, self.stays = device, x, batch, stays

    @property
    def nbytes(self) -> int:
        """All pictures, or none: orders bring them then, which makers count."""
        return self.x.nbytes if self.stays else 0

    @cached_property
    def pictures(self) -> Array:
        """All of them, on the device."""
        assert self.stays, "they are copied batch by batch"
        return kept(self.device, self.x)

    def maker(
        self,
        mean: NDArray[np.float32],
        factor: NDArray[np.float32],
        channels: int,
        down: NDArray[np.int32],
        across: NDArray[np.int32],
        how: Distortion | None,
        mixes: bool,
    ) -> Maker | None:
        if channels != self.x.shape[3] and self.x.shape[3] != 1:
            return None
        return DeviceMaker(self, mean, factor, channels, down, across, how, mixes)


def kept(device: Device, host: NDArray[Any]) -> Array:
    """A NumPy array, copied to memory of its own."""
    array = device.view(device.zeros(host.nbytes), 0, host.shape, str(host.dtype))
    device.put(host, array)
    return array


def _reach(weights: NDArray[np.float32]) -> int:
    """How far from the diagonal there are weights."""
    rows, columns = np.nonzero(weights)
    return int(np.abs(rows - columns).max(initial=0))


class DeviceMaker:
    """``Stock.maker``: what is the same for all batches, on the device."""

    def __init__(
        self,
        stock: DeviceStock,
        mean: NDArray[np.float32],
        factor: NDArray[np.float32],
        channels: int,
        down: NDArray[np.int32],
        across: NDArray[np.int32],
        how: Distortion | None,
        mixes: bool,
    ) -> None:
        self._stock, self._device, self._how, self._mixes = stock, stock.device, how, mixes
        self._height, self._width, self._c = stock.x.shape[1:]
        self._input = self._height, self._width, channels
        self._repeats = channels // self._c
        self._at_once = stock.batch
        self._constants = {"mean": mean, "factor": factor, "down": down, "across": across}
        if how is not None:
            self._constants |= {"fills": how.fills, "grey": how.grey}
            self._constants["offsets"] = np.zeros(stock.batch, np.float32)
        if how is not None and how.down is not None:
            self._at_once = max(1, min(stock.batch, FIELDS // (16 * self._height * self._width)))
            self._constants |= {"smooth_down": how.down, "smooth_across": how.across.T}
            fields = np.broadcast_to(np.float32(0), (self._at_once, 2, self._height, self._width))
            self._constants |= {"field": fields, "between": fields}

    @cached_property
    def _on_device(self) -> Mapping[str, Array]:
        """What is the same for all batches, and workspace."""
        return {name: kept(self._device, host) for name, host in self._constants.items()}

    def nbytes(self, canvases: int) -> int:
        """Constants and workspace, and an order on each canvas."""
        return sum(host.nbytes for host in self._constants.values()) + canvases * self.layout(self._stock.batch).nbytes

    def layout(self, n: int) -> Layout:
        """Of an order of n samples."""
        raw = None if self._stock.stays else self._stock.x.shape[1:]
        return layout(n, self._how is not None, self._mixes, raw)

    def write(self, order: Order, memory: NDArray[np.uint8]) -> int:
        """An order into memory as ``layout`` says; returns how many samples it is of."""
        n = len(order.rows)
        assert n <= self._stock.batch, f"made for {self._stock.batch} samples, ordered {n}"
        into = {
            name: memory[at : at + prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
            for name, (at, shape, dtype) in self.layout(n).parts.items()
        }
        into["epoch"][0], into["rows"][...] = order.epoch, order.rows
        into["picks"][...] = 0 if order.picks is None else order.picks
        for name, given in (("drawn", order.drawn), ("mixed", order.mixed)):
            if name in into:
                into[name][...] = given
        if "raw" in into:
            np.take(self._stock.x, order.rows, axis=0, out=into["raw"], mode="clip")
        return n

    def launches(self, memory: Array, out: Array) -> list[Step]:
        """What, one after another, makes ``out`` (n, H, W, C) of an order of n samples in the device's memory."""
        assert out.shape[1:] == self._input, (out.shape, self._input)
        assert str(out.dtype) == "float32", f"pictures are made as float32, not as {out.dtype}"
        n = out.shape[0]
        order = {
            name: self._device.view(memory, at, shape, dtype)
            for name, (at, shape, dtype) in self.layout(n).parts.items()
        }
        x = self._stock.pictures if self._stock.stays else order["raw"]
        lists = self._on_device["down"], self._on_device["across"]
        stored = x, order["rows"], order["picks"], *lists, int(self._stock.stays)
        steps = [self._picked(stored, out)] if self._how is None else [*self._distorted(self._how, stored, order, out)]
        if self._mixes and n > 1:
            steps.append(self._launch("mix_pictures", n // 2, (out, order["mixed"], *self._input)))
        return steps

    @property
    def _scaled(self) -> tuple[Any, ...]:
        return self._on_device["mean"], self._on_device["factor"], self._repeats

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self._height, self._width, self._c

    def _launch(self, kernel: str, pictures: int, args: tuple[Any, ...], pixels: int | None = None) -> Step:
        """By blocks of each picture's pixels, or of so many of what else it has."""
        blocks = -(-(pixels or self._height * self._width) // BLOCK)
        return self._device.launch(SOURCE, kernel, (pictures, min(blocks, MOST_BLOCKS)), (BLOCK,), args)

    def _picked(self, stored: tuple[Any, ...], out: Array) -> Step:
        return self._launch("pick_pictures", out.shape[0], (*stored, *self._scaled, *self._sizes, out))

    def _distorted(
        self, how: Distortion, stored: tuple[Any, ...], order: Mapping[str, Array], out: Array
    ) -> Iterator[Step]:
        n, drawn, fills, offsets = out.shape[0], order["drawn"], self._on_device["fills"], self._on_device["offsets"]
        elastic = how.down is not None
        # Where there are no fields, something stands for them that is not read.
        field = self._on_device["field"] if elastic else offsets
        flags = int(how.warped), int(elastic), how.border, int(how.coloured)
        for first in range(0, n, self._at_once):
            pictures = min(self._at_once, n - first)
            if elastic:
                yield from self._fields(how, order, first, pictures)
            args = (*stored, *self._scaled, *self._sizes, drawn, fills, field, out, first, *flags)
            yield self._launch("distort_pictures", pictures, args)
        if how.coloured:
            pixels = self._height * self._width
            grey = out, drawn, self._on_device["grey"], offsets, pixels, self._c, self._input[2]
            yield self._device.launch(SOURCE, "grey_pictures", (n,), (BLOCK,), grey)
            top = -1.0 if how.top is None else how.top
            yield self._launch("colour_pictures", n, (*self._scaled, *self._sizes, drawn, fills, offsets, out, top))

    def _fields(self, how: Distortion, order: Mapping[str, Array], first: int, pictures: int) -> Iterator[Step]:
        """Those of some pictures: noise, smoothed down, then across."""
        field, between = self._on_device["field"], self._on_device["between"]
        down, across = self._on_device["smooth_down"], self._on_device["smooth_across"]
        size, elements = self._sizes[:2], 2 * self._height * self._width
        noise = order["rows"], order["epoch"], field, first, elements, *how.key
        yield self._launch("elastic_noise", pictures, noise, -(-elements // 4))
        yield self._launch("smooth_down", 2 * pictures, (field, down, between, *size, _reach(how.down)))
        yield self._launch("smooth_across", 2 * pictures, (between, across, field, *size, _reach(how.across)))


class Tray:
    """Orders of one maker on one canvas: where they are written, where they are copied to, and what then runs."""

    def __init__(self, device: Device, maker: DeviceMaker, batch: int) -> None:
        self._device, self._maker, self._nbytes = device, maker, maker.layout(batch).nbytes
        self._host = device.room((self._nbytes,), "uint8")
        self._steps: dict[tuple[int, int], list[Step]] = {}

    @cached_property
    def _memory(self) -> Any:
        return self._device.zeros(self._nbytes)

    def write(self, order: Order) -> int:
        """Take it down; of how many samples it is."""
        return self._maker.write(order, self._host)

    def send(self, n: int, into: Array, link: Link) -> None:
        """Queue the copy of the last order, and what makes it."""
        nbytes = self._maker.layout(n).nbytes
        memory = self._device.view(self._memory, 0, (nbytes,), "uint8")
        self._device.send(self._host[:nbytes], memory)
        key = n, self._device.address(into)
        if key not in self._steps:
            self._steps[key] = link(self._maker.launches(self._memory, into))
        self._device.run(self._steps[key])
        self._device.release(memory)

    def sent(self) -> None:
        """Wait until the last order has been copied."""
        self._device.sent(self._host)


class DeviceCanvas:
    """``Backend.canvas``: of batches as large as ``shape``. What is sent is what was filled last, however it was."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str, link: Link) -> None:
        self._device, self._shape, self._dtype, self._link = device, shape, dtype, link
        self._trays: dict[DeviceMaker, Tray] = {}
        self._ordered: tuple[Tray, int] | None = None

    def __getitem__(self, part: slice) -> DeviceCanvas:
        """That of fewer samples is the same."""
        return self

    @cached_property
    def _pixels(self) -> NDArray[Any]:
        pixels: NDArray[Any] = self._device.room(self._shape, self._dtype)
        return pixels

    def pixels(self) -> NDArray[Any]:
        """Page-locked, made when it is first asked for."""
        self._ordered = None
        return self._pixels

    def order(self, maker: Maker, order: Order) -> None:
        """Write down what is to be made; any thread may do so."""
        assert isinstance(maker, DeviceMaker), "makers and canvases of one backend go together"
        if maker not in self._trays:
            self._trays[maker] = Tray(self._device, maker, self._shape[0])
        tray = self._trays[maker]
        self._ordered = tray, tray.write(order)

    def send(self, into: Array) -> None:
        """Copy the pixels, or copy the order and make what it says."""
        if self._ordered is None:
            self._device.send(self._pixels[: into.shape[0]], into)
            return
        tray, n = self._ordered
        assert n == into.shape[0], f"{n} samples were ordered, {into.shape[0]} are to be made"
        tray.send(n, into, self._link)

    def sent(self) -> None:
        """Wait until what was sent has left the host's memory."""
        for tray in self._trays.values():
            tray.sent()
        if "_pixels" in self.__dict__:  # asking for them would make them
            self._device.sent(self._pixels)
