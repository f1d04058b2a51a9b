"""The backend's memory, and what it makes of a list of steps."""

import numpy as np
import pytest

from cnnforge.backends.cupy.backend import CupyBackend
from cnnforge.backends.cupy.capabilities import CAPABILITIES, WITH_LIBRARY
from cnnforge.backends.cupy.device import Queued, chain
from cnnforge.backends.cupy.ops import KERNELS, SCRATCH
from cnnforge.lower import train_graph
from cnnforge.plan import make_plan
from cnnforge.spec import ModelSpec
from tests.backends.cupy.emulator import Emulator


class Recording(Emulator):
    """Says what is captured together."""

    def __init__(self):
        super().__init__(opaque=True)
        self.captured = []

    def capture(self, steps):
        self.captured.append(len(steps))
        return super().capture(steps)


class TestLinking:
    def steps(self):
        self.ran = []
        queued = [Queued(lambda i=i: self.ran.append(i)) for i in range(5)]
        return [*queued[:2], lambda: self.ran.append("host"), queued[2], lambda: self.ran.append("host"), *queued[3:]]

    def test_neighbours_that_only_queue_are_one_graph(self):
        device = Recording()
        backend = CupyBackend(device)
        linked = backend.link(self.steps())
        assert not self.ran
        assert (len(linked), device.captured) == (5, [2, 2])
        backend.run(linked)
        assert self.ran == [0, 1, "host", 2, "host", 3, 4]

    def test_without_graphs_every_step_is_queued_by_itself(self):
        device = Recording()
        steps = self.steps()
        assert CupyBackend(device, graphs=False).link(steps) == steps
        assert not device.captured

    def test_a_chain_is_queued_where_all_of_it_is(self):
        assert isinstance(chain([Queued(print), Queued(print)]), Queued)
        assert not isinstance(chain([Queued(print), print]), Queued)

    def test_nothing_is_linked_to_nothing(self):
        assert CupyBackend(Recording()).link([]) == []


class TestMemory:
    backend = CupyBackend(Emulator(opaque=True))

    def test_a_buffer_is_zeroed_and_aligned(self):
        buffer = self.backend.buffer(1000)
        view = self.backend.view(buffer, 0, (1000,), "uint8")
        assert not self.backend.get(view).any()
        assert self.backend.device.address(view) % 256 == 0

    def test_put_converts_and_get_is_a_copy(self):
        view = self.backend.view(self.backend.buffer(64), 16, (2, 3), "float32")
        self.backend.put(3, view)
        copy = self.backend.get(view)
        self.backend.put(np.arange(6.0).reshape(2, 3), view)
        assert copy.tolist() == [[3] * 3] * 2
        assert self.backend.get(view).tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_a_room_is_sent(self):
        view = self.backend.view(self.backend.buffer(64), 0, (4, 2), "float32")
        room = self.backend.room(view)
        room[...] = 7
        assert not self.backend.get(view).any()
        self.backend.send(room, view)
        assert (self.backend.get(view) == 7).all()

    @pytest.mark.parametrize(("offset", "shape"), [(-8, (1,)), (64, (1,)), (0, (9,))])
    def test_a_view_past_the_end_is_refused(self, offset, shape):
        with pytest.raises(IndexError, match="does not fit 64 bytes"):
            self.backend.view(self.backend.buffer(64), offset, shape, "float64")


class TestCapabilities:
    def test_every_kernel_is_declared(self):
        assert KERNELS.keys() == CAPABILITIES.ops
        assert SCRATCH.keys() <= KERNELS.keys()

    def test_what_stands_behind_the_head_of_a_chain_takes_no_workspace(self):
        assert CAPABILITIES.chains.isdisjoint(SCRATCH)
        assert not {op for chain in CAPABILITIES.chains for op in chain.split("+")[1:]} & SCRATCH.keys()

    @pytest.mark.parametrize("able", [CAPABILITIES, WITH_LIBRARY])
    def test_all_of_a_plan_is_native(self, able):
        layers = {
            "conv": {"type": "conv", "filters": 4, "kernel": 3, "activation": "relu"},
            "output": {"type": "fc", "units": 3, "activation": "softmax"},
        }
        spec = ModelSpec.model_validate({"name": "net", "input": [8, 8, 1], "layers": layers})
        plan = make_plan(train_graph(spec, 4, "float32", 0), able)
        assert [segment.kind for segment in plan.segments] == ["native"] * len({s.phase for s in plan.segments})
