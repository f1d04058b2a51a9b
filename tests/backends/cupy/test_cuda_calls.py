"""What is asked of CuPy, by a CuPy on NumPy: in which order, on which stream, and from which memory.

It cannot say that the real one does it so: that is for a GPU (docs/gpu.md).
"""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.cuda import LARGEST, WAITING, CudaDevice
from cnnforge.backends.cupy.device import Instead, Queued, chain
from cnnforge.errors import BackendError
from cnnforge.shapes import window


class OutOfMemoryError(Exception):
    pass


class Pointer:
    """An address into a block of memory."""

    def __init__(self, block, offset=0):
        self.block, self.offset = block, offset
        self.ptr = block.ctypes.data + offset

    def __add__(self, more):
        return Pointer(self.block, self.offset + more)

    def memset_async(self, byte, nbytes, stream):
        stream.log.append("memset")
        self.block[self.offset : self.offset + nbytes] = byte

    def copy_from_device_async(self, source, nbytes, stream):
        stream.log.append("copy")
        self.block[self.offset : self.offset + nbytes] = source.block[source.offset : source.offset + nbytes]


class Array:
    def __init__(self, shape, dtype, memptr=None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize
        if memptr is None and self.nbytes > Array.most:
            raise OutOfMemoryError
        self.data = memptr or Pointer(np.full(self.nbytes, 7, np.uint8))

    most = 1 << 30

    def reshape(self, *shape):
        return Array(self._seen().reshape(*shape).shape, self.dtype, self.data)

    def _seen(self):
        at = self.data.offset
        return self.data.block[at : at + self.nbytes].view(self.dtype).reshape(self.shape)

    def set(self, host, stream):
        assert host.flags.c_contiguous
        assert (host.shape, host.dtype) == (self.shape, self.dtype)
        stream.log.append("set pinned" if id(host.base if host.base is not None else host) in Cupy.pinned else "set")
        self._seen()[...] = host

    def get(self, stream):
        stream.log.append("get")
        return self._seen().copy()


class Stream:
    def __init__(self, non_blocking):
        assert non_blocking
        self.log, self.ptr, self.capturing = [], 17, False

    def __enter__(self):
        self.log.append("(")

    def __exit__(self, *error):
        self.log.append(")")

    def synchronize(self):
        self.log.append("wait")

    def begin_capture(self):
        self.capturing = True

    def end_capture(self):
        self.capturing = False
        return SimpleNamespace(
            upload=lambda stream: stream.log.append("upload"), launch=lambda stream: stream.log.append("graph")
        )


class Cupy:
    """The parts of the module that are used."""

    #: Pinned arrays by their identity, which holds as long as they are kept.
    pinned: ClassVar[dict[int, np.ndarray]] = {}

    def __init__(self):
        class Device:
            id = 0

            def __init__(self, number):
                assert number == 0

            __enter__ = __exit__ = lambda self, *error: None

        self.launched = []
        self.ndarray = Array
        self.done = True
        self.cuda = SimpleNamespace(
            Device=Device,
            Stream=Stream,
            Event=lambda disable_timing: SimpleNamespace(
                record=lambda stream: stream.log.append("event"),
                synchronize=lambda: self.launched.append("waited"),
                done=self.done,
            ),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=SimpleNamespace(
                memGetInfo=lambda: (3 << 20, 8 << 20), getDeviceProperties=lambda number: {"name": b"A card"}
            ),
        )

    def get_default_memory_pool(self):
        return SimpleNamespace(free_bytes=lambda: 1 << 20)

    def RawModule(self, code, options):  # noqa: N802
        assert code.startswith("#define T ")
        assert options == ("-std=c++17",)

        def get_function(name):
            class Function:
                num_regs = 20

                def __call__(kernel, grid, block, args):  # noqa: N805
                    self.launched.append((name, grid, block, args))

            return Function()

        return SimpleNamespace(get_function=get_function)


@pytest.fixture
def cupy(monkeypatch):
    def empty_pinned(shape, dtype):
        array = np.empty(shape, dtype)
        Cupy.pinned[id(array)] = array
        return array

    Cupy.pinned.clear()
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=empty_pinned))
    monkeypatch.setattr(CudaDevice, "_cublas", None)
    monkeypatch.setattr(CudaDevice, "_cudnn", None)
    return Cupy()


@pytest.fixture
def device(cupy):
    return CudaDevice(cupy)


def view(device, shape, dtype="float32"):
    return device.view(device.zeros(1 << 10), 64, shape, dtype)


def test_memory_is_zeroed_on_the_stream(device):
    array = view(device, (2, 3))
    assert device.get(array).tolist() == [[0] * 3] * 2
    assert device.stream.log == ["(", "memset", ")", "get"]
    with pytest.raises(IndexError, match="does not fit 1024 bytes"):
        device.view(device.zeros(1 << 10), 1000, (7,), "float32")
    assert device.zeros(0).size == 0


def test_out_of_memory(device, monkeypatch):
    monkeypatch.setattr(Array, "most", 100)
    with pytest.raises(BackendError) as caught:
        device.zeros(2 << 20)
    assert caught.value.why == "2 MiB are wanted, 4 MiB of A card are free"


def test_numbers_go_by_pinned_memory_that_is_used_again_when_it_may(device, cupy):
    array = view(device, (2, 3))
    for value in range(3):
        device.put(value, array)
        assert (device.get(array) == value).all()
    assert device.stream.log[3:6] == ["set pinned", "event", "get"]
    (room,) = device._pinned.values()
    assert len(room._busy) == 1, "its copies were done"
    cupy.done = False
    for value in range(2 * WAITING):
        device.put(value, array)
    assert len(room._busy) == WAITING
    assert cupy.launched.count("waited") >= WAITING, "the oldest was waited for"


def test_what_is_large_is_not_kept_in_pinned_memory(device, monkeypatch):
    monkeypatch.setattr("cnnforge.backends.cupy.cuda.LARGEST", 16)
    assert LARGEST > 16
    array = view(device, (2, 3))
    device.put(np.arange(6).reshape(2, 3), array)
    assert device.get(array).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert device.stream.log[3:5] == ["set", "wait"]
    assert not device._pinned


def test_a_batch_is_sent_from_its_room(device):
    backend = CupyBackend(device)
    array = view(device, (2, 3))
    room = backend.room(array)
    assert not room.any()
    room[...] = 5
    backend.send(room, array)
    assert (backend.get(array) == 5).all()
    assert device.stream.log[3:] == ["set pinned", "get"]


def test_kernels_are_launched_with_numbers_of_their_types(device, cupy):
    backend = CupyBackend(device)
    x, y = view(device, (60,), "float64"), view(device, (60,), "float64")
    backend.run(backend.link([backend.kernel("relu")((x,), (y,), ())]))
    ((name, grid, block, args),) = cupy.launched
    assert (name, grid[1:], block) == ("relu", (1, 1), (256, 1, 1))
    assert args[:2] == (x, y)
    assert (args[2], type(args[2])) == (60, np.int64)
    assert device.stream.log[-2:] == ["(", ")"]


def test_what_runs_in_one_order_is_one_graph(device, cupy):
    backend = CupyBackend(device)
    x, y = view(device, (6,)), view(device, (6,))
    steps = [backend.kernel("relu")((x,), (y,), ()), device.fill(y, 0), device.copy(x, y)]
    linked = backend.link(steps)
    assert len(linked) == 1
    assert len(cupy.launched) == 1, "a capture calls every step once"
    backend.run(linked)
    assert device.stream.log[-3:] == ["(", "graph", ")"]
    assert len(cupy.launched) == 1
    assert device.stream.log.count("upload") == 1


def test_all_of_a_training_is_queued(device):
    """Every op that one process runs is captured: only ``gather_ranks`` is the host's."""
    from cnnforge.backends.cupy.ops import KERNELS
    from cnnforge.executable import Executable, Weights
    from cnnforge.lower import train_graph
    from cnnforge.optim import Adam
    from cnnforge.plan import make_plan
    from cnnforge.spec import ModelSpec

    assert "gather_ranks" in KERNELS
    layers = {
        "conv": {"type": "conv", "filters": 4, "kernel": 3},
        "norm": {"type": "batch_norm"},
        "pool": {"type": "pool", "kernel": 2},
        "drop": {"type": "dropout"},
        "output": {"type": "fc", "units": 3, "activation": "softmax"},
    }
    spec = ModelSpec.model_validate({"name": "net", "input": [8, 8, 1], "layers": layers})
    backend = CupyBackend(device)
    plan = make_plan(train_graph(spec, 4, "float32", 0, Adam(type="adam")), backend.capabilities)
    bound = Executable(plan, backend, Weights(plan, backend)).bound(4)
    assert all(isinstance(step, Queued) for step in bound.steps())
    assert len(backend.link(bound.steps("forward", "loss", "backward", "update"))) == 1


class Library:
    """Has one plan for everything; ``fails`` when it is called."""

    def __init__(self, fails=False):
        self.fails, self.asked, self.ran = fails, [], 0

    def convolution(self, how, number, addresses, space):
        self.asked.append((how, number, addresses, space))

        def call():
            self.ran += 1
            if self.fails:
                raise RuntimeError("execution failed")

        return None if number else call


class TestConvolutions:
    def bind(self, device, way="cudnn"):
        win = window((4, 4), (3, 3), (1, 1), "same")
        x, w, y = view(device, (1, 4, 4, 1)), view(device, (3, 3, 1, 2)), view(device, (1, 4, 4, 2))
        scratch = view(device, (3, 3, 1, 2)), view(device, (400,), "uint8")
        attrs = {"window": win, "groups": 1, "flip": False, "way": way}
        step = CupyBackend(device).kernel("conv2d")((x, w), (y,), scratch, **attrs)
        return step, [device.address(array) for array in (x, scratch[0], y)], device.address(scratch[1])

    def test_a_plan_is_tried_in_a_capture_first(self, device, cupy, monkeypatch):
        library = Library()
        monkeypatch.setattr(device, "_cudnn", library)
        step, addresses, space = self.bind(device)
        assert library.asked[0][1:] == (0, addresses, (space, 400))
        assert library.ran == 1
        assert not device.stream.capturing
        assert isinstance(step, Queued)
        assert not isinstance(step, Instead)
        CupyBackend(device, graphs=False).run([step])
        assert ([name for name, *_ in cupy.launched], library.ran) == (["turn"], 2)

    @pytest.mark.parametrize("library", [None, Library(fails=True)])
    def test_where_that_fails_our_own_kernel_is_bound(self, device, cupy, monkeypatch, library):
        monkeypatch.setattr(device, "_cudnn", library)
        step, _, _ = self.bind(device)
        assert isinstance(step, Instead)
        assert not device.stream.capturing
        step()
        assert [name for name, *_ in cupy.launched] == ["conv2d"]

    def test_a_capture_that_ends_badly_is_a_plan_that_fails(self, device, monkeypatch):
        def end_capture():
            raise RuntimeError("the capture was invalidated")

        monkeypatch.setattr(device, "_cudnn", Library())
        monkeypatch.setattr(device.stream, "end_capture", end_capture)
        step, _, _ = self.bind(device)
        assert isinstance(step, Instead)

    def test_a_library_that_does_not_load_is_none(self, cupy, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        monkeypatch.setitem(sys.modules, "cudnn", None)
        assert CudaDevice(cupy)._cudnn is None
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert CudaDevice(cupy)._cudnn is None

    def test_one_launch_is_no_graph_and_two_are(self, device, cupy):
        x, y = view(device, (6,)), view(device, (6,))
        backend = CupyBackend(device)
        relu = backend.kernel("relu")((x,), (y,), ())
        assert backend.link([relu]) == [relu]
        assert backend.link([chain((relu, relu))]) != [chain((relu, relu))]
        assert device.stream.log.count("upload") == 1
