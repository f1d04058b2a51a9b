"""plan + backend -> executable: kernels bound once to their views; a step is a walk over a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from cnnforge.backends.base import Array, Backend, Step
from cnnforge.backends.constants import FIRST_SCALE
from cnnforge.ir.graph import DEVICE_FIELDS, DTYPE_BYTES, GATHERED, STEP_FIELDS, Phase, Value
from cnnforge.ir.precision import PRECISIONS
from cnnforge.plan import Place, Plan, PlannedNode
from cnnforge.rng import stream

#: What ``Executable.tally`` holds.
TALLIED = DEVICE_FIELDS[DEVICE_FIELDS.index("skip") :]


class Weights:
    """Parameters and running state on a device: two flat buffers, and a view of each tensor by name.

    Every plan of one model lays them out alike, so training, evaluation and prediction share one set.
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        self.backend = backend
        self.buffers = {name: backend.buffer(plan.sizes[name]) for name in ("params", "state")}
        self.params = {name: self._view(plan, p.value) for name, p in plan.params.items()}
        self.state = {name: self._view(plan, v) for name, (v, _) in plan.state.items()}

    def _view(self, plan: Plan, v: Value) -> Array:
        place = plan.places[v]
        return self.backend.view(self.buffers[place.buffer], place.offset, v.shape, v.dtype)

    def initialise(self, plan: Plan, seed: int) -> None:
        """Draw every parameter from the seed and its own name; set running state to where it starts."""
        for name, p in plan.params.items():
            values = p.init.fill(p.value.shape, p.fan, stream(seed, "init", name))
            self.backend.put(values, self.params[name])
        for name, (_, start) in plan.state.items():
            self.backend.put(start, self.state[name])


@dataclass(frozen=True, slots=True)
class Call:
    """A node of the plan, the kernel call it is bound to, and the arrays it reads and writes."""

    node: PlannedNode
    step: Step
    ins: tuple[Array, ...]
    outs: tuple[Array, ...]


class Bound:
    """One plan bound for one batch size.

    calls: in the order in which they run
    x, labels: device arrays to fill;  outputs: ``output, prediction, loss, hits``
    """

    def __init__(
        self,
        backend: Backend,
        calls: Mapping[Phase, list[Call]],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        rooms: Callable[[], tuple[Any, Any]],
        apart: bool,
    ) -> None:
        """``apart``: are its inputs in memory of their own, which nothing else uses?"""
        self._backend, self.calls, self._rooms, self._apart = backend, calls, rooms, apart
        self._linked: dict[tuple[Phase, ...], list[Step]] = {}
        self.x, self.labels = inputs["x"], inputs["labels"]
        self.outputs = outputs

    @property
    def room(self) -> tuple[Any, Any]:
        """What x (see ``Backend.canvas``) and labels, an array, are filled into; ``send`` takes them to the device. As
        ``vacated``.
        """
        self.vacated()
        return self._room

    @cached_property
    def _room(self) -> tuple[Any, Any]:
        x, labels = self._rooms()
        return x[: self.x.shape[0]], labels[: self.labels.shape[0]]

    def vacated(self) -> None:
        """Wait until what was sent from ``room`` has left it, so that it may be filled again."""
        for room in self._room:
            self._backend.sent(room)

    def send(self) -> None:
        """What is in ``room`` is what the next run reads."""
        for room, array in zip(self._room, (self.x, self.labels), strict=True):
            self._backend.send(room, array)

    def read(self, output: str) -> Any:
        """A NumPy copy of an output."""
        return self._backend.get(self.outputs[output])

    def run(self, *phases: Phase) -> None:
        """Run every kernel of these phases, in the order given."""
        if phases not in self._linked:
            self._linked[phases] = self._backend.link(self.steps(*phases))
        self._backend.run(self._linked[phases])
        self._release()

    def _release(self) -> None:
        """The next batch need not wait for others' steps, where its memory is this one's alone."""
        if self._apart:
            self._backend.release(self.x)
            self._backend.release(self.labels)

    def steps(self, *phases: Phase) -> Iterable[Step]:
        """The bound kernels of these phases, of all where none is named, in the order in which they run."""
        return (call.step for phase in phases or self.calls for call in self.calls.get(phase, ()))

    def each(self, *phases: Phase) -> Iterator[Call]:
        """Run these phases one call at a time; each is given out when it is done."""
        for phase in phases:
            for call in self.calls.get(phase, ()):
                self._backend.run(self._backend.link([call.step]))
                self._release()
                yield call


class Executable:
    """A plan on a device. Binding a batch size for the first time takes milliseconds; later calls return the same."""

    def __init__(self, plan: Plan, backend: Backend, weights: Weights, arena: Any = None) -> None:
        """``arena``: memory of another executable of the same model to share; they must then not run interleaved."""
        self.plan, self.backend, self.weights = plan, backend, weights
        buffers = {name: backend.buffer(plan.sizes[name]) for name in ("grads", "slots", "step")}
        self.arena = backend.buffer(plan.sizes["arena"]) if arena is None else arena
        self._buffers = buffers | weights.buffers | {"arena": self.arena}
        self._bound: dict[tuple[int, int | None], Bound] = {}
        self._turns: dict[int, dict[Place, Any]] = {}
        self._rooms: dict[int | None, tuple[Any, Any]] = {}
        self.grads = {name: self._view(v) for name, v in plan.grads.items()}
        self._step_block = (
            backend.view(buffers["step"], 0, (len(STEP_FIELDS),), "float64") if plan.sizes["step"] else None
        )
        self.slots = dict(self._slot_views())
        self.scaling = self._scaling()
        if self.scaling:
            self.restart()
        self.sums = self._sums()
        self.tally = self._tally()

    def _slot_views(self) -> Iterable[tuple[str, Array]]:
        """Each optimizer slot cut into the parameters it belongs to: ``conv1.w/mean``."""
        for slot, offsets in self.plan.slots.items():
            for name, dv in self.plan.grads.items():
                if name in offsets:
                    view = self.backend.view(self._buffers["slots"], offsets[name], dv.shape, dv.dtype)
                    yield f"{name}/{slot}", view

    def _scaling(self) -> Mapping[str, Array]:
        """Of a training whose loss is scaled: the scale, and the updates since it last changed, as ``loss_scale``."""
        if not any(n.op == "guard" for segment in self.plan.segments for n in segment.nodes):
            return {}
        assert DEVICE_FIELDS[:2] == ("scale", "since")
        behind = len(STEP_FIELDS) * DTYPE_BYTES["float64"]
        return {"loss_scale": self.backend.view(self._buffers["step"], behind, (2,), "float64")}

    def restart(self) -> None:
        """The optimizer's slots to 0, and the loss scale to what it begins at.

        That is meant for the mean of the losses. Gradients here are sums: it is divided by the samples of a batch,
        rounded down to a power of two.
        """
        for slot in self.slots.values():
            self.backend.put(0, slot)
        for pair in self.scaling.values():
            self.backend.put((FIRST_SCALE / (1 << (self.plan.batch.bit_length() - 1)), 0.0), pair)

    def _sums(self) -> Array:
        """(P,): the gradients that the next update reads, those gathered over several batches where there are such."""
        gathered = self.plan.slots.get(GATHERED)
        buffer, offset = ("slots", min(gathered.values())) if gathered else ("grads", 0)
        dtype = PRECISIONS[self.plan.precision].weights
        size = self.plan.sizes["grads"] // DTYPE_BYTES[dtype]
        return self.backend.view(self._buffers[buffer], offset, (size,), dtype)

    def _tally(self) -> Array | None:
        """(len(TALLIED),) float64: what the device keeps of losses, where the plan adds them up; else None."""
        node = next((n for segment in self.plan.segments for n in segment.nodes if n.op == "tally"), None)
        if node is None:
            return None
        place, before = self.plan.places[node.outs[0]], len(DEVICE_FIELDS) - len(TALLIED)
        offset = place.offset + before * DTYPE_BYTES["float64"]
        return self.backend.view(self._buffers[place.buffer], offset, (len(TALLIED),), "float64")

    @property
    def kept(self) -> Mapping[str, Array]:
        """All that a training goes on from: weights, running state, slots and loss scale by name."""
        return {**self.weights.params, **self.weights.state, **self.slots, **self.scaling}

    def forget(self) -> None:
        """Set the gradients of the last batch to 0."""
        for grad in self.grads.values():
            self.backend.put(0, grad)

    def _view(self, v: Value, batch: int | None = None, turn: int | None = None) -> Array:
        place = self.plan.places[v]
        shape = (batch, *v.shape[1:]) if v.batched and batch is not None else v.shape
        own = self._inputs(turn).get(place)
        if own is not None:
            return self.backend.view(own, 0, shape, v.dtype)
        return self.backend.view(self._buffers[place.buffer], place.offset, shape, v.dtype)

    def _inputs(self, turn: int | None) -> Mapping[Place, Any]:
        """Memory of this turn's own by the place in the arena that it stands for: an input is there alone all step."""
        if turn is None:
            return {}
        if turn not in self._turns:
            inputs = self.plan.inputs.values()
            self._turns[turn] = {self.plan.places[v]: self.backend.buffer(v.nbytes) for v in inputs}
        return self._turns[turn]

    def bound(self, batch: int, turn: int | None = None) -> Bound:
        """The plan bound for ``batch`` samples, at most the planned number.

        turn: with inputs in memory of their own, one for each number: one can be filled while another is read, or
              while somebody else uses the arena
        """
        if (batch, turn) not in self._bound:
            assert 1 <= batch <= self.plan.batch, f"planned for {self.plan.batch} samples, asked for {batch}"
            self._bound[batch, turn] = self._bind(batch, turn)
        return self._bound[batch, turn]

    def _bind(self, batch: int, turn: int | None) -> Bound:
        arrays: dict[Value, Array] = {v: self._view(v, batch, turn) for v in self.plan.places}
        calls: dict[Phase, list[Call]] = {}
        for segment in self.plan.segments:
            for n in segment.nodes:
                ins, outs, scratch = (tuple(arrays[v] for v in group) for group in (n.ins, n.outs, n.scratch))
                bind = self.backend.kernel(n.op)
                call = Call(n, bind(ins, outs, scratch, **n.attrs), ins, outs)
                calls.setdefault(segment.phase, []).append(call)
        inputs = {name: arrays[v] for name, v in self.plan.inputs.items()}
        outputs = {name: arrays[v] for name, v in self.plan.outputs.items()}
        return Bound(self.backend, calls, inputs, outputs, partial(self._room, turn), apart=turn is not None)

    def _room(self, turn: int | None) -> tuple[Any, Any]:
        """Host memory of the planned batch's inputs, which all batch sizes of a turn share."""
        if turn not in self._rooms:
            x, labels = (self._view(self.plan.inputs[name], turn=turn) for name in ("x", "labels"))
            self._rooms[turn] = self.backend.canvas(x), self.backend.room(labels)
        return self._rooms[turn]

    def set_step(
        self,
        *,
        step: int,
        draw: int,
        first: int,
        lr: float,
        inv_n: float,
        scalars: tuple[float, float],
        keep: float = 0.0,
    ) -> None:
        """Write what changes from step to step (see ``STEP_FIELDS``)."""
        if self._step_block is not None:
            self.backend.put((step, draw, first, lr, inv_n, *scalars, keep), self._step_block)

    @property
    def nbytes(self) -> int:
        """Everything that was allocated for this executable and its weights."""
        return sum(self.plan.sizes.values()) + len(self._turns) * sum(v.nbytes for v in self.plan.inputs.values())
