"""Is a GPU's training right? Each check returns what is wrong, a line each; none where everything holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
#: The tests that a GPU is asked to pass.
TESTS = ("tests/conformance/test_kernels.py", "tests/conformance/test_halves.py")
#: Nets that take a step on both backends, with their batch.
CHECKED = (("lenet", 8), ("resnet20", 4), ("mobilenet_v2_cifar", 4))
#: How far a gradient may be from float32's on the CPU, relative to the largest of its tensor, and the first loss,
#: relative. A product of tf32 has 11 bits, of bfloat16 8, of float16 11; errors add up from layer to layer.
CLOSE: Mapping[str, tuple[float, float]] = {
    "float32": (1e-3, 1e-4), "tf32": (5e-2, 5e-3), "float16": (5e-2, 5e-3), "bfloat16": (3e-1, 3e-2),
}  # fmt: skip
#: Steps after which a loss scale is small enough.
STEPS = 20
#: Experiments that a GPU trains to the end: the folder of their data, the CPU's test accuracy (docs/experiments.md),
#: and how far below it is no noise any more.
TRAINED = (("lenet5_mnist", "mnist", 0.9916, 0.0016), ("cifar10_fast", "cifar10-jpg", 0.8851, 0.0070))


def conformance() -> list[str]:
    """What fails of the tests that need a GPU."""
    try:
        import hypothesis
        import pytest
    except ImportError as error:
        print(f"conformance: left out, {error.name} is not installed", flush=True)
        return []
    assert pytest.__version__
    assert hypothesis.__version__
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    began = perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    print(f"conformance, {perf_counter() - began:.0f} s: {lines[-1] if lines else done.stderr[-500:]}", flush=True)
    return [line for line in lines if line.startswith(("FAILED", "ERROR"))] or (
        [] if done.returncode == 0 else [f"conformance: pytest ends with {done.returncode}"]
    )


def step_by_step(net: str, batch: int, precision: str, backend: str = "cupy") -> list[str]:
    """A step from the same weights on the GPU and in float32 by NumPy: where gradients and loss differ.

    Where the loss is scaled, the scale may be too large at first: such updates are left out, and the weights stay.
    """
    from benchmarks import nets
    from benchmarks.engines import Ours

    spec = nets.spec(net)
    tried = Ours(spec, nets.optimizer(net), batch, backend, 1, precision=precision)
    plain = Ours(spec, nets.optimizer(net), batch, "numpy", 1)
    plain()
    for _ in range(STEPS):
        tried()
        if all(np.isfinite(tried.backend.get(array)).all() for array in tried.executable.grads.values()):
            break
    found, wanted = (
        {name: np.array(side.backend.get(array), np.float64) for name, array in side.executable.grads.items()}
        for side in (tried, plain)
    )
    of_gradient, of_loss = CLOSE[precision]
    failed, furthest = [], 0.0
    for name, expected in wanted.items():
        off = float(np.abs(found[name] - expected).max() / max(float(np.abs(expected).max()), 1e-6))
        furthest = max(furthest, off)
        if not off <= of_gradient:
            failed.append(f"{net}, {precision}: the gradient of {name} is {off:.1e} off")
    ours, theirs = tried.loss(), plain.loss()
    if not abs(ours - theirs) <= of_loss * abs(theirs):
        failed.append(f"{net}, {precision}: the loss is {ours}, not {theirs}")
    print(
        f"{net}, {precision}: {len(wanted)} gradients beside NumPy's, the furthest {furthest:.1e} of its largest, "
        f"loss {ours:.6f} and {theirs:.6f}; {len(failed)} beyond what was allowed",
        flush=True,
    )
    return failed


def same_bits(precision: str, backend: str = "cupy", net: str = "resnet20", batch: int = 32) -> list[str]:
    """Do two trainings from one seed end in the same bits?"""
    from benchmarks import nets
    from benchmarks.engines import Ours

    ends = []
    for _ in range(2):
        side = Ours(nets.spec(net), nets.optimizer(net), batch, backend, 1, precision=precision)
        for _ in range(10):
            side()
        ends.append(side.arrays())
    differ = [name for name in ends[0] if not np.array_equal(ends[0][name], ends[1][name])]
    print(f"{precision}: two trainings of ten steps, {len(differ)} of {len(ends[0])} tensors differ", flush=True)
    return [f"{net}, {precision}: {name} is not the same in two trainings" for name in differ[:3]]


def resumed(precision: str, backend: str = "cupy", epochs: int = 40) -> list[str]:
    """A training that is interrupted in the middle of an epoch and resumed, beside one that is not: are the weights the
    same to the bit?"""
    words = (
        "train", "model=lenet", "data=synthetic", "data.samples=8192", "tracking=none", "trainer.report=false",
        f"trainer.backend={backend}", f"trainer.precision={precision}", "trainer.batch_size=128",
        f"trainer.epochs={epochs}",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        whole = _command(*words, f"run.dir={folder}", "run.name=whole")
        first = _interrupted(Path(folder) / "parts", *words, f"run.dir={folder}", "run.name=parts")
        second = _command("resume", f"{folder}/parts")
        if whole[0] or second[0] or first not in (0, 130):
            return [f"resume, {precision}: a command fails: {(whole[1] if whole[0] else second[1])[-400:]}"]
        if not first:
            return [f"resume, {precision}: the training ended before it could be interrupted: more epochs"]
        ends = [(Path(folder) / name / "checkpoints/last/model.safetensors").resolve() for name in ("whole", "parts")]
        differ = [name for name, (a, b) in _tensors(*ends).items() if not np.array_equal(a, b)]
    print(f"{precision}: interrupted and resumed, {len(differ)} tensors differ", flush=True)
    return [f"resume, {precision}: {name} is not the same" for name in differ[:3]]


def _interrupted(run: Path, *words: str) -> int:
    """The exit code of a command that is interrupted soon after its run's first record of a step."""
    child = subprocess.Popen(
        [sys.executable, "-m", "cnnforge", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = run / "journal.jsonl"
    while child.poll() is None and not (journal.is_file() and "step/lr" in journal.read_text(encoding="utf-8")):
        sleep(0.005)
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    return child.wait()


def _tensors(one: Path, other: Path) -> dict[str, tuple[Any, Any]]:
    from safetensors.numpy import load_file

    first, second = load_file(one), load_file(other)
    return {name: (first[name], second.get(name)) for name in first}


def trained(experiment: str, data: str, wanted: float, noise: float, precision: str) -> list[str]:
    """An experiment trained to its end: is its accuracy the CPU's, within noise?"""
    if not (Path(os.environ.get("CNNFORGE_DATA", "")) / data).is_dir():
        print(f"{experiment}: left out, $CNNFORGE_DATA/{data} is not here", flush=True)
        return []
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        code, said = _command(
            "train", f"experiment={experiment}", "trainer.backend=cupy", f"trainer.precision={precision}",
            "tracking=none", "trainer.report=false", f"run.dir={folder}",
        )  # fmt: skip
        seconds = perf_counter() - began
        if code:
            return [f"{experiment}, {precision}: the command ends with {code}: {said[-400:]}"]
        result = json.loads((Path(folder) / "latest" / "result.json").read_text())
    found = result["test_accuracy"]
    print(
        f"{experiment}, {precision}: {found:.2%} after {seconds:.0f} s, the CPU has {wanted:.2%}; "
        f"{result['samples_per_second']:,.0f} samples/s, waiting for data {result.get('data_wait', 0.0):.1%}",
        flush=True,
    )
    if found >= wanted - noise:
        return []
    return [f"{experiment}, {precision}: {found:.2%} is more than {noise:.2%} below the CPU's {wanted:.2%}"]


def _command(*words: str) -> tuple[int, str]:
    """A cnnforge command's exit code, and what it said."""
    command: Sequence[str] = [sys.executable, "-m", "cnnforge", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr or done.stdout


#: Pictures, filters, groups; kernel, stride, padding; is the kernel flipped? Of each every way is tried.
CONVOLUTIONS = {
    "3x3": ((8, 14, 14, 64), 96, 1, ((3, 3), (1, 1), "same"), False),
    "3x3, flipped, strided": ((8, 15, 16, 32), 48, 1, ((3, 3), (2, 2), (1, 2, 0, 1)), True),
    "5x5 of a picture": ((8, 28, 28, 3), 16, 1, ((5, 5), (1, 1), "valid"), False),
    "3x3 in groups": ((8, 12, 12, 32), 64, 4, ((3, 3), (1, 1), "same"), True),
    "1x1, strided": ((8, 14, 14, 64), 128, 1, ((1, 1), (2, 2), "valid"), False),
}  # fmt: skip


def convolutions(backend: Any) -> list[str]:
    """Each way of a convolution and its gradients beside our own kernel, in every precision: which are far from it."""
    from cnnforge.ir.graph import Node, Value
    from cnnforge.shapes import window

    rng, failed, tried, missing = np.random.default_rng(0), [], 0, 0
    for name, (pictures, filters, groups, asked, flip) in CONVOLUTIONS.items():
        win = window(pictures[1:3], *asked)
        weights = *win.kernel, pictures[3] // groups, filters
        shapes = {"x": pictures, "w": weights, "y": (pictures[0], *win.out, filters)}
        arrays = {role: rng.standard_normal(shape).astype(np.float32) for role, shape in shapes.items()}
        for precision, (close, _) in CLOSE.items():
            dtype, tf32 = ("float32", {"tf32": True}) if precision == "tf32" else (precision, {})
            values = {
                role: Value(i, role, shape, "act", dtype, role != "w") for i, (role, shape) in enumerate(shapes.items())
            }
            attrs = {"window": win, "groups": groups, "flip": flip, **tf32}
            for op, roles in (("conv2d", "xwy"), ("conv2d_dx", "ywx"), ("conv2d_dw", "xyw")):
                ins, outs = tuple(values[role] for role in roles[:2]), (values[roles[2]],)
                node, given = Node(op, ins, outs, attrs, "forward", ()), [arrays[role] for role in roles[:2]]
                own = _by(backend, "own", node, given)
                for way in backend.capabilities.ways(op, ins, outs, attrs):
                    if way == "own":
                        continue
                    found = _by(backend, way, node, given)
                    if found is None:
                        missing += 1
                        continue
                    tried += 1
                    off = float(np.abs(found - own).max() / np.abs(own).max())
                    if not off <= close:
                        failed.append(f"{name}, {op} by {way}, {precision}: {off:.1e} off our own kernel")
    said = f"convolutions: {tried} ways beside our own kernels, {len(failed)} differ; {missing} are not on this card"
    print(said, flush=True)
    return failed


def _by(backend: Any, way: str, node: Any, arrays: Sequence[Any]) -> Any:
    """What a way gives, as float64; None where this card has no such plan."""
    from cnnforge.ir.graph import DTYPE_BYTES
    from cnnforge.shapes import count

    def memory(shape: tuple[int, ...], dtype: str) -> Any:
        return backend.view(backend.buffer(count(shape) * DTYPE_BYTES[dtype]), 0, shape, dtype)

    attrs = {**node.attrs, "way": way}
    ins, outs = (tuple(memory(v.shape, v.dtype) for v in values) for values in (node.ins, node.outs))
    for array, host in zip(ins, arrays, strict=True):
        backend.put(host, array)
    wanted = backend.capabilities.scratch(node.op, node.ins, node.outs, attrs)
    step = backend.kernel(node.op)(ins, outs, tuple(memory(s.shape, s.dtype) for s in wanted), **attrs)
    if backend.instead(step):
        return None
    backend.run(backend.link([step]))
    return np.asarray(backend.get(outs[0])).astype(np.float64)
