"""What is asked of CuPy, by a CuPy on NumPy: in which order, on which stream, and from which memory.

It cannot say that the real one does it so: that is for a GPU (docs/gpu.md).
"""

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from cnnforge.backends.base import MIXED, Order
from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.cuda import LARGEST, WAITING, CudaDevice
from cnnforge.backends.cupy.device import Instead, Queued, chain
from cnnforge.errors import BackendError
from cnnforge.shapes import window
from tests.backends.cupy.emulator import fake_nccl
from tests.ranks import together


class OutOfMemoryError(Exception):
    pass


class CUDARuntimeError(RuntimeError):
    """As CuPy's: its status is a number, its text begins with its name."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


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

    def wait_event(self, event):
        self.log.append("after event")

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
            def __init__(device, number):  # noqa: N805
                self.on = number

            def __enter__(device):  # noqa: N805
                self.depth += 1

            def __exit__(device, *error):  # noqa: N805
                self.depth -= 1
                if self.left is not None:
                    raise self.left

        self.launched, self.depth, self.on, self.left = [], 0, None, None
        self.ndarray = Array
        self.done = True
        self.cuda = SimpleNamespace(
            Device=Device,
            Stream=Stream,
            Event=lambda disable_timing, block=False: SimpleNamespace(
                record=lambda stream: stream.log.append("event"),
                synchronize=lambda: self.launched.append("waited"),
                done=self.done,
            ),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            driver=SimpleNamespace(CUDADriverError=type("CUDADriverError", (RuntimeError,), {})),
            compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
            nvrtc=SimpleNamespace(NVRTCError=type("NVRTCError", (RuntimeError,), {})),
            runtime=SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError,
                memGetInfo=lambda: (3 << 20, 8 << 20),
                getDeviceCount=lambda: 2,
                getDeviceProperties=lambda number: {"name": b"A card", "uuid": b"card %d" % number},
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


def test_a_batch_is_sent_from_its_room(device, cupy):
    backend = CupyBackend(device)
    array = view(device, (2, 3))
    room = backend.room(array)
    assert not room.any()
    room[...] = 5
    backend.send(room, array)
    assert (backend.get(array) == 5).all()
    assert device.stream.log[3:] == ["event", "after event", "get"], "what is asked for later waits for the copy"
    assert device.copies.log == ["after event", "set pinned", "event"], "it waits for what was asked for before"
    backend.release(array)
    backend.send(room, array)
    assert device.stream.log[6:] == ["event", "after event"], "for what was asked for before the release"
    assert not cupy.launched
    backend.sent(room[:1])
    assert cupy.launched == ["waited"]
    backend.sent(np.zeros(3))
    assert cupy.launched == ["waited"], "nothing was sent from there"


def test_a_batch_is_ordered_from_pinned_memory_and_made_by_one_graph(device, cupy):
    backend = CupyBackend(device)
    x = np.zeros((6, 4, 4, 1), np.uint8)
    array = view(device, (3, 4, 4, 1))
    canvas = backend.canvas(array)
    maker = backend.stock(x, 3, True).maker(*np.ones((2, 1), np.float32), 1, *np.zeros((2, 1, 4), np.int32), None, True)
    for _ in range(2):
        canvas.order(maker, Order(np.arange(3), None, None, 0, np.ones((3, MIXED), np.float32)))
        before = len(device.stream.log)
        backend.send(canvas, array)
    copied = ["after event"]
    assert device.stream.log[before:] == [*copied, "(", "graph", ")", "event"], "it is free for the next one then"
    assert device.copies.log == ["after event", "set pinned", "event"] * 2
    launched = [call for call in cupy.launched if call != "waited"]
    assert [name for name, *_ in launched] == ["pick_pictures", "mix_pictures"], "they are captured once"
    (_, grid, block, args), (_, of_pairs, *_) = launched
    assert (grid, block, of_pairs) == ((3, 1, 1), (256, 1, 1), (1, 1, 1))
    assert args[-1] is array


def test_kernels_are_launched_with_numbers_of_their_types(device, cupy):
    backend = CupyBackend(device)
    x, y = view(device, (60,), "float64"), view(device, (60,), "float64")
    backend.run(backend.link([backend.kernel("relu")((x,), (y,), ())]))
    ((name, grid, block, args),) = cupy.launched
    assert (name, grid[1:], block) == ("apply", (1, 1), (256, 1, 1))
    assert args[:2] == (x, y)
    assert (args[2], type(args[2])) == (60, np.int64)
    assert device.stream.log[-2:] == ["(", ")"]


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_halves_go_by_their_own_dtype_and_kernels(device, cupy, monkeypatch, half):
    monkeypatch.setattr(CudaDevice, "_cublas", None)
    backend = CupyBackend(device)
    room = backend.room(x := view(device, (3, 5), half))
    assert (str(room.dtype), room.nbytes) == (half, 30)
    room[...] = 1.0009765625  # 1 + 2^-10: a digit more than bfloat16 has
    backend.send(room, x)
    assert (device.get(x).astype("float32") == (1 if half == "bfloat16" else 1.0009765625)).all()
    b, w, y, z = view(device, (5,)), view(device, (5, 2), half), view(device, (3, 2), half), view(device, (3, 5), half)
    steps = [backend.kernel("bias")((x, b), (z,), ()), backend.kernel("matmul")((x, w), (y,), ())]
    backend.run(steps)
    assert [name for name, *_ in cupy.launched] == ["bias", "product"]
    assert set(device._modules) == {("channels", half, ()), ("linear", half, ())}


def test_a_missing_bfloat16_is_said(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(BackendError) as caught:
        view(device, (3,), "bfloat16")
    assert str(caught.value) == (
        "there is no bfloat16\n  where: trainer.precision\n"
        "  why:   NumPy and CuPy have it from ml_dtypes, which is not installed\n"
        "  fix:   pip install 'cnnforge[gpu]', or trainer.precision=float16"
    )


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_cupy_itself_takes_halves(half):
    """The one thing that it can be asked without a GPU: what an array on given memory is."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    memory = cupy.cuda.UnownedMemory(1 << 16, 1 << 10, None, 0)
    buffer = SimpleNamespace(nbytes=1 << 10, data=cupy.cuda.MemoryPointer(memory, 0))
    array = CudaDevice.view(SimpleNamespace(_cupy=cupy), buffer, 64, (4, 6), half)
    assert (str(array.dtype), array.shape, array.size, array.nbytes) == (half, (4, 6), 24, 48)
    assert array.data.ptr == (1 << 16) + 64
    part = array.reshape(24)[3:5]
    assert (str(part.dtype), part.nbytes, part.data.ptr) == (half, 4, array.data.ptr + 6)
    with pytest.raises(TypeError, match="cannot be set to"):  # it looks at dtypes before it looks for a GPU
        array.set(np.zeros((4, 6), "float32"))


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
    plan = make_plan(train_graph(spec, 4, "float32", 0, Adam(type="adam"), tally=True), backend.capabilities)
    bound = Executable(plan, backend, Weights(plan, backend)).bound(4)
    assert all(isinstance(step, Queued) for step in bound.steps())
    assert len(backend.link(bound.steps("forward", "loss", "backward", "update"))) == 1


ILL = "cudaErrorIllegalAddress: an illegal memory access was encountered"


def calls(device):
    """Everything by which the backend makes CUDA do something, by its name."""
    number = SimpleNamespace(set=array_fails, shape=(), dtype=np.dtype("f4"), size=1, nbytes=4)
    return {
        "run": lambda: device.run([array_fails]),
        "capture": lambda: device.capture([array_fails]),
        "get": lambda: device.get(SimpleNamespace(get=array_fails)),
        "put": lambda: device.put(1, number),
        "send": lambda: device.send(1, SimpleNamespace(set=array_fails, data=SimpleNamespace(ptr=0))),
        "sync": lambda: setattr(device.stream, "synchronize", array_fails) or device.sync(),
        "free": lambda: setattr(device._cupy.cuda.runtime, "memGetInfo", array_fails) or device.free(),
        "zeros": lambda: setattr(device._cupy, "ndarray", array_fails) or device.zeros(8),
        "room": lambda: setattr(sys.modules["cupyx"], "empty_pinned", array_fails) or device.room((2,), "float32"),
    }


def array_fails(*arguments, **more):
    raise CUDARuntimeError(700, ILL)


@pytest.mark.parametrize("name", ["run", "capture", "get", "put", "send", "sync", "free", "zeros", "launch", "room"])
def test_no_call_lets_an_error_of_cuda_through(device, cupy, name):
    call = calls(device).get(name)
    cupy.left = CUDARuntimeError(700, "cudaErrorIllegalAddress: said once more, when the card is left")
    if name == "launch":
        from cnnforge.backends.cupy import signature

        array = SimpleNamespace(dtype=np.dtype("f4"), data=None)
        device._cupy.RawModule = array_fails
        args = [array if p.array else 1 for p in signature.kernels("activation")["apply"]]
        call = lambda: device.launch("activation", "apply", (1,), (1,), args)  # noqa: E731
    with pytest.raises(BackendError) as caught:
        call()
    assert (caught.value.where, caught.value.why) == ("A card (device 0)", ILL)
    assert cupy.depth == 0, "the card that was there before is there again"


def test_what_is_no_error_of_cuda_stays_what_it_is(device):
    with pytest.raises(ZeroDivisionError):
        device.run([lambda: 1 / 0])


def test_every_call_goes_to_the_chosen_card(cupy):
    device = CudaDevice(cupy, 1)
    assert (cupy.on, device.name) == (1, "A card")
    inside = []
    device.run([lambda: inside.append(cupy.depth)])
    assert inside == [1]


def test_a_process_has_a_gpu_of_its_own(cupy, monkeypatch):
    """Four on a host of two GPUs; what NCCL then does is tested where there is something that stands for it."""
    monkeypatch.setattr("cnnforge.backends.cupy.cuda.found", lambda name: None)

    def joined(ranks):
        CudaDevice(cupy, ranks.host[0] % 2, ranks).join()

    for error in together(4, joined):
        assert str(error) == (
            "there are more processes than GPUs\n  where: mpiexec\n"
            "  why:   processes 0 and 2 would share A card (device 0): their host shows 2 GPUs to 4 processes, and "
            "each needs one of its own\n"
            "  fix:   mpiexec -n 2 on that host, or trainer.backend=auto; CUDA_VISIBLE_DEVICES may hide some"
        )
    assert [str(error) for error in together(2, joined)] == [
        "NCCL is not found\n  where: trainer.backend\n"
        "  why:   several processes that train on GPUs add their gradients up through it\n"
        "  fix:   pip install nvidia-nccl-cu12 (of another CUDA, its own), or one process"
    ] * 2


def test_collectives_go_by_address_over_the_device_s_stream(cupy, monkeypatch):
    """Memory of the host stands for the GPU's: what is added up, gathered and spread is where the arrays are."""
    monkeypatch.setattr("cnnforge.backends.cupy.cuda.found", lambda name: str(fake_nccl()))

    def met(ranks):
        device = CudaDevice(cupy, ranks.rank, ranks)
        backend = CupyBackend(device, together=ranks)
        backend.join()
        a, b, rows = view(device, (3,)), view(device, (2,), "float64"), view(device, (2, 2))
        for array in (a, b):
            backend.put(ranks.rank + 1.0, array)
        backend.put([[5.0 + rank] * 2 if rank == ranks.rank else [-1.0] * 2 for rank in range(2)], rows)
        backend.sum(a)
        device.gather(rows)
        backend.align({"b": b})
        return [backend.get(array).tolist() for array in (a, b, rows)]

    assert together(2, met) == [[[3, 3, 3], [1, 1], [[5, 5], [6, 6]]]] * 2


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
