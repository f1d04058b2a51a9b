"""The whole contract between a plan and a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cnnforge.plan.capabilities import Capabilities

#: A device array: whatever the backend's ``view`` gives.
Array = Any
#: One bound kernel call: no arguments, no shape logic, no allocation.
Step = Callable[[], None]
#: ``kernel(ins, outs, scratch, **attrs) -> step``: called once per binding; ``attrs`` are the node's own.
Kernel = Callable[..., Step]
#: ``gather(rows, picks, out)``: what ``Backend.gather`` gives.
Gather = Callable[[Any, Any, Any], None]
#: ``distort(rows, picks, drawn, epoch, out)``: what ``Backend.distort`` gives.
Distort = Callable[[Any, Any, Any, int, Any], None]
#: ``collect(own, into)``: numbers of this process (K,) to all that train with it, and theirs (ranks, K) here.
Collect = Callable[[Array, Array], None]
#: ``report(done, total)``: told how far something that takes long has come.
Report = Callable[[int, int], None]


#: float32 numbers drawn for a pair of pictures that is mixed: how much of a picture is its own; top, left, bottom,
#: right of the part that moves. A part without rows is none: then one picture is laid over the other.
MIXED = 5
#: float32 numbers drawn for a picture that is distorted: 0 to 5 the map of an output pixel to where it is read (source
#: row = 0 h + 1 w + 2, source column = 3 h + 4 w + 5); 6 to 9 and 10 to 13 top, left, bottom, right of two rectangles,
#: the last two outside; 14 to 22 a map of red, green and blue, by rows; 23 what is added of the picture's mean grey.
DRAWN = 24


@dataclass(frozen=True)
class Distortion:
    """What is the same for all pictures that are distorted. Arrays are NumPy's, float32.

    key:          the stream of the elastic fields
    down, across: (H, H), (W, W): a field is down noise across^T; None where there are no fields
    warped:       is anything interpolated?  coloured: do colours change?
    border:       what lies outside when interpolating: 0 zero, 1 reflect, 2 edge
    fills:        (2, c): what the rectangles hold, normalised
    grey:         (c,): weights of the mean grey
    top:          colours are held within 0 and this; None where pixels have a scale of their own
    """

    key: tuple[int, int]
    down: Any
    across: Any
    warped: bool
    coloured: bool
    border: int
    fills: Any
    grey: Any
    top: float | None


@dataclass(frozen=True)
class Order:
    """What a batch's pictures are made of. Arrays are NumPy's and lie in one piece.

    rows:  (N,) int64: samples, counted in the split
    picks: (N, 2) int32: lists of source rows and columns; None where nothing is moved
    drawn: (N, DRAWN) float32; None where nothing is distorted
    epoch: decides elastic fields, with the sample's number
    mixed: (N, MIXED) float32: how the first of a pair is mixed with the second; None where nothing is
    """

    rows: Any
    picks: Any
    drawn: Any
    epoch: int
    mixed: Any


class Maker(Protocol):
    """A device's own way from stored pictures to batches; ``Canvas.order`` takes it. It allocates nothing before."""

    def nbytes(self, canvases: int) -> int:
        """Device memory that it takes where it is used on so many, beside the pictures that stay."""


class Canvas(Protocol):
    """What a batch's input is asked for by, where the device may make pictures itself: ``Backend.canvas``."""

    def pixels(self) -> Any:
        """The host makes them: (n, H, W, C), NumPy, to be filled from the first sample on."""

    def order(self, maker: Maker, order: Order) -> None:
        """The device makes them when this is sent. Copies what is in ``order``."""


class Stock(Protocol):
    """A split's stored pictures, for batches that the device makes. It allocates nothing before the first is sent."""

    @property
    def nbytes(self) -> int:
        """Device memory that they take."""

    def maker(
        self, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion | None, mixes: bool
    ) -> Maker | None:
        """As ``Backend.gather``, as ``Backend.distort`` where there is ``how``; mixed behind it where it ``mixes``.

        None: the host makes them.
        """


class Backend(Protocol):
    """A device that can run plans."""

    name: str
    capabilities: Capabilities

    def buffer(self, nbytes: int) -> Any:
        """Zeroed device memory, aligned to at least 64 bytes."""

    def view(self, buffer: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
        """An array of ``shape`` at ``offset`` bytes into ``buffer``, sharing its memory."""

    def kernel(self, op: str) -> Kernel:
        """The kernel that runs ``op``, a fused one included."""

    def prepare(self, steps: Iterable[Step], report: Report) -> None:
        """Have ready what running ``steps`` would first have to wait for; linking does it too, without a word.

        ``report`` is called before and while something is done, and not at all where nothing is missing.
        """

    def gather(self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any) -> Gather | None:
        """A compiled way from stored pictures to a batch of input in host memory; None: NumPy's will do.

        x: (n, H, W, c), NumPy;  mean, factor: (c,) float32
        down: (R, H), across: (K, W) int32: lists of source rows and columns, negative for black (``data.augment``)
        gather(rows (N,), picks (N, 2) of these lists or None, out (N, H, W, channels) float32): out[i] is
        (x[rows[i]] - mean) * factor, moved first, a single channel repeated. Equal to NumPy's to the bit; it leaves
        Python's lock free, and one thread at a time may call it.
        """

    def distort(
        self, x: Any, mean: Any, factor: Any, channels: int, down: Any, across: Any, how: Distortion
    ) -> Distort | None:
        """As ``gather``, for pictures whose pixels change too; None: NumPy's will do.

        distort(rows, picks, drawn (N, DRAWN), epoch, out): out[i] is x[rows[i]] moved, interpolated, coloured,
        normalised, erased. rows[i] is the sample's number, and with the epoch decides its elastic field.
        """

    def stock(self, x: Any, batch: int, stays: bool) -> Stock | None:
        """Stored pictures x (n, H, W, c), NumPy, of which the device makes batches; None: the host makes them.

        batch: samples of the largest one
        stays: do they lie on the device, all the time? Else a batch's are copied there as they are stored.
        """

    def link(self, steps: Iterable[Step]) -> list[Step]:
        """Steps that always run in this order, with neighbours joined into one where the device can."""

    def run(self, steps: Iterable[Step]) -> None:
        """Run bound steps in order. Overflow gives inf or nan without a word: the loop looks at the loss."""

    def instead(self, step: Step) -> bool:
        """Was this bound in place of the way that was asked for, as the device does not have that one?"""

    def free(self) -> int | None:
        """Bytes of memory that plans may take; None where the system decides as it comes."""

    def room(self, array: Array) -> Any:
        """Host memory to fill for ``array``, as a NumPy array: itself where the device is the host."""

    def canvas(self, array: Array) -> Any:
        """What is filled for ``array``, a batch's input: a ``Canvas``, or what ``room`` gives."""

    def send(self, room: Any, into: Array) -> None:
        """Copy what ``room`` gave, or its first rows, to the device; nothing where it is there already.

        What ``canvas`` gave may hold an order: then the device makes it. Steps that are asked for afterwards find it
        there. It waits for those that were asked for before, or, where ``into`` was released since the last time, for
        those before that alone: so it may come while others run.
        """

    def release(self, into: Array) -> None:
        """Nobody is going to read what was sent to ``into`` but the steps asked for so far."""

    def sent(self, room: Any) -> None:
        """Wait until what was sent from ``room`` has left it: it may be filled again. Any thread may call this."""

    def put(self, host: Any, into: Array) -> None:
        """Copy a NumPy array (or number) to the device."""

    def get(self, array: Array) -> Any:
        """A NumPy copy."""

    def sync(self) -> None:
        """Wait until everything asked for has happened."""

    def join(self) -> None:
        """Meet the processes that train with this one, before the first of these calls; all of them make it.

        Raises BackendError where they cannot talk to each other.
        """

    def sum(self, array: Array) -> None:
        """Add ``array`` up over the processes, in place, in order with the steps."""

    def align(self, arrays: Mapping[str, Array]) -> None:
        """Take over what the first process has in these arrays, in order with the steps."""
