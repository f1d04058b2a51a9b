"""Is a GPU's training right, and how fast is it beside PyTorch's on the same card?

First correctness, on the device: every plan of cuDNN's beside our own kernels; the conformance suite's kernels (tests
marked gpu; without pytest and hypothesis they are left out, and it says so); a step of a few nets in every precision
beside the numpy backend in float32; whether two trainings from one seed are the same to the bit; a training that is
interrupted and resumed; with $CNNFORGE_DATA, MNIST to 99% and CIFAR-10 in the CPU's recipe. Then throughput, in one
precision on both sides: ours as one CUDA graph beside PyTorch eager, channels_last, compiled, and as one CUDA graph of
its own. Engines take turns.

ratio: PyTorch's time / ours, of the medians: above 1 we are faster.
of limit: multiply-adds done directly per second, beside what cuBLAS reaches here for a large product in that precision.

    python -m benchmarks.gpu [--net lenet resnet20 …] [--skip-tests] [--no-compile] [--rounds 5] [--quick]

Within eight minutes on one card; docs/gpu.md says what a machine needs for it. What no longer fits into
--minutes is left out, and it says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, milliseconds, share


@dataclass(frozen=True)
class Line:
    """A row of the table. asked: at least so often as fast as PyTorch in this form."""

    net: str
    batch: int
    precision: str = "float32"
    asked: Mapping[str, float] = field(default_factory=dict)


LINES = (
    Line("lenet", 128, "float32", {"eager": 3.0, "graph": 1.0}),
    Line("resnet20", 256, "float32", {"eager": 1.5}),
    Line("resnet50", 128, "tf32", {"eager": 1.0}),
    Line("resnet50", 128, "bfloat16", {"eager": 1.0}),
)
FORMS = ("eager", "channels_last", "compile", "graph")
#: Seconds of an engine's turn, and seconds that torch.compile may take for a net.
TURN, COMPILING = 0.5, 90.0


def main(words: Sequence[str] | None = None) -> None:
    began = perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", help="instead of every row")
    parser.add_argument("--batch", type=options.positive, help="instead of each row's own")
    parser.add_argument("--rounds", type=options.positive, default=5, help="turns of each engine (%(default)s)")
    parser.add_argument("--minutes", type=options.positive, default=8, help="to be done in (%(default)s)")
    parser.add_argument("--skip-tests", action="store_true", help="leave the conformance suite out")
    parser.add_argument("--skip-training", action="store_true", help="leave whole trainings out")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes a minute per net")
    parser.add_argument("--quick", action="store_true", help="the smallest net alone, in two rounds")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    chosen = parser.parse_args(words)

    from cnnforge.backends import create

    backend: Any = create("cupy")
    print(f"{backend.device.name}, {backend.free() / 2**30:.0f} GiB free", flush=True)
    failed = correctness(chosen, backend)
    print("\n".join(failed) if failed else "correct: every check passed", flush=True)
    throughput(chosen, backend, began + 60 * chosen.minutes)
    print(f"{perf_counter() - began:.0f} s in all")
    if failed:
        sys.exit(1)


def correctness(chosen: argparse.Namespace, backend: Any) -> list[str]:
    """What is wrong."""
    from benchmarks import gpu_checks as checks

    failed = checks.convolutions(backend)
    failed += [] if chosen.skip_tests else checks.conformance()
    for net, batch in checks.CHECKED[:1] if chosen.quick else checks.CHECKED:
        for precision in checks.CLOSE:
            failed += checks.step_by_step(net, batch, precision)
    failed += checks.same_bits("float32") + checks.same_bits("bfloat16")
    if not (chosen.quick or chosen.skip_training):
        failed += checks.resumed("float32") + checks.resumed("float16")
        for experiment in checks.TRAINED:
            failed += checks.trained(*experiment, "float32")
        failed += checks.trained(*checks.TRAINED[-1], "bfloat16")
    return failed


def throughput(chosen: argparse.Namespace, backend: Any, until: float) -> None:
    """The table."""
    bandwidth = copy_rate(backend)
    limits = {precision: product_rate(backend, precision) for precision in dict.fromkeys(x.precision for x in LINES)}
    reached = ", ".join(f"{precision} {rate / 1e12:.1f}" for precision, rate in limits.items())
    print(f"this card: {bandwidth / 1e9:.0f} GB/s copying; TFLOP/s by cuBLAS: {reached}", flush=True)
    columns = {"net": 12, "precision": 9, "batch": 5, "ours": 8} | dict.fromkeys(FORMS, 8)
    columns |= {"ratios": 34, "asked": 24, "samples/s": 9, "of limit": 8}
    table = Table(columns, words=2, markdown=chosen.markdown)
    lines = [line for line in LINES if chosen.net is None or line.net in chosen.net]
    lines += [Line(net, 64) for net in chosen.net or () if net not in {line.net for line in LINES}]
    notes: dict[str, None] = {}
    for line in lines[:1] if chosen.quick else lines:
        notes |= dict.fromkeys(measure(line, chosen, table, limits[line.precision], until))
    table.notes(*notes)


def measure(line: Line, chosen: argparse.Namespace, table: Table, limit: float, until: float) -> list[str]:
    """One row; returns what is to be said below the table."""
    from benchmarks import nets
    from benchmarks.engines import Ours

    spec, batch = nets.spec(line.net), chosen.batch or line.batch
    ours = Ours(spec, nets.optimizer(line.net), batch, "cupy", 1, precision=line.precision)
    start = ours.arrays()
    ours()
    first = ours.loss()
    engines: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {"ours": (ours, ours.backend.sync)}
    compiled = not (chosen.no_compile or chosen.quick) and perf_counter() + COMPILING < until
    rivals, notes = theirs(spec, ours, start, first, line.precision, [f for f in FORMS if compiled or f != "compile"])
    if not compiled:
        notes.append(f"{spec.name}, {line.precision}: torch.compile left out")
    times = in_turn(engines | rivals, 2 if chosen.quick else chosen.rounds, TURN / 10 if chosen.quick else TURN)
    mine = median(times["ours"])
    ratios = {form: median(times[form]) / mine for form in FORMS if form in times}
    table.row(
        line.net,
        line.precision,
        batch,
        milliseconds(mine),
        *(milliseconds(median(times[form])) if form in times else None for form in FORMS),
        ", ".join(f"{form} {value:.2f}" for form, value in ratios.items()) or None,
        ", ".join(f"{form} {value:g}" for form, value in line.asked.items()) or None,
        float(batch / mine),
        share(nets.training_flops(spec, batch) / mine / limit),
    )
    return notes


def theirs(
    spec: Any, ours: Any, start: Mapping[str, Any], first: float, precision: str, forms: Sequence[str]
) -> tuple[dict[str, tuple[Callable[[], None], Callable[[], None]]], list[str]]:
    """PyTorch's engines that run here and whose first loss is ours, and notes on the others."""
    try:
        from benchmarks import torch_gpu
    except ImportError:
        return {}, ["PyTorch is not installed: only our own times"]
    from benchmarks.engines import CLOSE, CLOSE_BFLOAT16, same_loss
    from benchmarks.recipe import draws, recipe, torch_arrays

    plain, arrays, found, notes = recipe(spec, ours.optimizer), torch_arrays(spec, start), {}, []
    for form in forms:
        try:
            engine = torch_gpu.Step(plain, arrays, ours.data, form, precision)
            engine()
            # A captured step has been taken before; learning rates are small, so the loss has hardly moved.
            if not draws(spec):
                same_loss(form, engine.loss(), first, CLOSE if precision == "float32" else CLOSE_BFLOAT16)
            found[form] = engine, torch_gpu.synchronize
        except Exception as error:  # whatever its many parts raise, or another net than ours
            said = str(error).splitlines()[0] if str(error) else ""
            notes.append(f"{spec.name}, {precision}: PyTorch {form} left out, {type(error).__name__}: {said}")
    return found, notes


def in_turn(
    engines: Mapping[str, tuple[Callable[[], None], Callable[[], None]]], rounds: int, turn: float
) -> dict[str, list[float]]:
    """Seconds per step of each engine by round. An engine is (queue a step, wait for all): waited for once a turn."""
    many = {}
    for name, (step, wait) in engines.items():
        for _ in range(3):
            step()
        wait()
        began = perf_counter()
        for _ in range(3):
            step()
        wait()
        many[name] = max(3, round(turn / ((perf_counter() - began) / 3)))
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, (step, wait) in engines.items():
            step()
            wait()
            began = perf_counter()
            for _ in range(many[name]):
                step()
            wait()
            times[name].append((perf_counter() - began) / many[name])
    return times


def product_rate(backend: Any, precision: str, size: int = 8192) -> float:
    """Floating-point operations per second of a square product, as the backend does it."""
    from cnnforge.backends.cupy.linear import product

    dtype, nbytes = (precision, 2) if precision in ("bfloat16", "float16") else ("float32", 4)
    matrices = [backend.view(backend.buffer(nbytes * size * size), 0, (size, size), dtype) for _ in range(3)]
    seconds = _seconds(backend, product(backend.device, *matrices, tf32=precision == "tf32"))
    return 2 * size**3 / seconds


def copy_rate(backend: Any, nbytes: int = 1 << 28) -> float:
    """Bytes read and written per second by a copy on the device."""
    one, other = (backend.view(backend.buffer(nbytes), 0, (nbytes,), "uint8") for _ in range(2))
    return 2 * nbytes / _seconds(backend, backend.device.copy(one, other))


def _seconds(backend: Any, step: Callable[[], None]) -> float:
    times = in_turn({"it": (lambda: backend.run([step]), backend.sync)}, 3, 0.05)
    return min(times["it"])


if __name__ == "__main__":
    options.run(main)
