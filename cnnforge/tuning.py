"""Which way each kernel call goes, where a backend has several: measured once per machine.

A way is chosen by running all of them on noise of the call's own shapes. What was found is kept in the user's cache,
under the call's signature, so every later plan with the same call knows. Where nothing was measured the backend's guess
holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from cnnforge.backends import capabilities_of, facts_of, resolve
from cnnforge.ir.graph import DTYPE_BYTES, Node, Value
from cnnforge.measurements import Measurements, this_machine
from cnnforge.plan.forecast import signature
from cnnforge.shapes import count

if TYPE_CHECKING:
    from cnnforge.backends.base import Array, Backend, Step

#: Raise it when kernels change so much that old choices mislead.
VERSION = 2
#: Rounds in which each way runs once: as many as fit into the seconds for each way, within (fewest, most). A way's
#: fastest run counts. In turn, because what disturbs a moment would else decide for all runs of one way.
ROUNDS, SECONDS = (3, 30), 0.02


class Choice:
    """Chooses ways for ``make_plan``: of a run's record first, then as measured, then the backend's guess.

    exact:  only ways that round as the definition does
    device: measures what is not known yet; without, it is noted in ``guessed``
    record: way by signature, of a run that is continued
    """

    def __init__(
        self, backend: str, threads: int | None, *, exact: bool = False, device: Backend | None = None,
        record: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        facts = {
            "ways": VERSION,
            **this_machine(),
            **facts_of(backend),
            "backend": resolve(backend),
            "threads": threads,
        }
        self._file = Measurements("ways", facts, "chosen", "the chosen ways of kernels")
        self._inexact = capabilities_of(backend).inexact if exact else frozenset()
        self.device, self._record = device, record or {}
        self._known, self.notes = self._file.load(lambda way: isinstance(way, str))
        self.chosen: dict[str, str] = {}
        self.guessed: dict[str, tuple[Node, tuple[str, ...]]] = {}
        self.measured, self.seconds = 0, 0.0

    def __call__(self, node: Node, ways: tuple[str, ...]) -> str:
        allowed = tuple(way for way in ways if way not in self._inexact) or ways
        batch = next((v.shape[0] for v in (*node.ins, *node.outs) if v.batched), 1)
        name = f"{signature(node, batch)}/{batch}/{'+'.join(allowed)}"
        way = self._record.get(name) or self._known.get(name)
        if way not in allowed:
            way = allowed[0]
            if self.device is not None and len(allowed) > 1:
                way = self._known[name] = self._fastest(self.device, node, allowed)
            elif len(allowed) > 1:
                self.guessed[name] = node, allowed
        self.chosen[name] = way
        return way

    def trials(self, device: Backend) -> Iterator[Step]:
        """What measuring would run for calls that were only guessed, bound to memory that nobody has touched."""
        for node, ways in self.guessed.values():
            ins, outs = _memory(device, node.ins), _memory(device, node.outs)
            yield from (_bound(device, node, way, ins, outs, {}) for way in ways)

    def keep(self) -> None:
        """Write down what was measured since."""
        if self.measured:
            self.notes += self._file.save(self._known)

    def _fastest(self, device: Backend, node: Node, ways: tuple[str, ...]) -> str:
        began = perf_counter()
        ins, outs = _memory(device, node.ins), _memory(device, node.outs)
        for v, array in zip((*node.ins, *node.outs), (*ins, *outs), strict=True):
            _fill(device, v, array)
        space: dict[tuple[tuple[int, ...], str, int], Array] = {}
        bound = {way: _bound(device, node, way, ins, outs, space) for way in ways}
        there = {way: step for way, step in bound.items() if not device.instead(step)} or bound
        times = _seconds(device, {way: device.link([step]) for way, step in there.items()})
        self.measured, self.seconds = self.measured + 1, self.seconds + perf_counter() - began
        return min(times, key=times.__getitem__)


def _memory(device: Backend, values: Iterable[Value]) -> tuple[Array, ...]:
    return tuple(device.view(device.buffer(v.nbytes), 0, v.shape, v.dtype) for v in values)


def _fill(device: Backend, v: Value, array: Array) -> None:
    """With noise: with zeros some kernels are faster."""
    import numpy as np

    noise = np.random.default_rng(0).standard_normal(1 << 12, np.float32)
    device.put(np.resize(np.abs(noise) if v.dtype.startswith("uint") else noise, v.shape).astype(v.dtype), array)


def _bound(
    device: Backend, node: Node, way: str, ins: tuple[Array, ...], outs: tuple[Array, ...],
    space: dict[tuple[tuple[int, ...], str, int], Array],
) -> Step:  # fmt: skip
    """``space``: workspace that other ways have, which run at other times; what is added is there for the next."""
    attrs: dict[str, Any] = {**node.attrs, "way": way}
    scratch = []
    for i, wanted in enumerate(device.capabilities.scratch(node.op, node.ins, node.outs, attrs)):
        key = wanted.shape, wanted.dtype, i
        if key not in space:
            buffer = device.buffer(count(wanted.shape) * DTYPE_BYTES[wanted.dtype])
            space[key] = device.view(buffer, 0, wanted.shape, wanted.dtype)
        scratch.append(space[key])
    return device.kernel(node.op)(ins, outs, tuple(scratch), **attrs)


def _seconds(device: Backend, ways: Mapping[str, list[Step]]) -> dict[str, float]:
    """The fastest run of each way, after one that is not timed."""
    for steps in ways.values():
        device.run(steps)
    device.sync()
    (fewest, most), until, rounds = ROUNDS, perf_counter() + SECONDS * len(ways), 0
    best = dict.fromkeys(ways, inf)
    while rounds < fewest or (rounds < most and perf_counter() < until):
        for way, steps in ways.items():
            began = perf_counter()
            device.run(steps)
            device.sync()
            best[way] = min(best[way], perf_counter() - began)
        rounds += 1
    return best
