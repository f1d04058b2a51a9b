"""Where does a training step's time go?

Every kernel call of our step by itself, the fastest of many steps, sorted by time. GMAC/s are of convolutions and
products, counted as done directly, whatever algorithm runs. Timed one by one, calls cannot overlap or be joined, so
their sum is shown beside the step as it runs.

    python -m benchmarks.profile [NET] [--batch 64] [--rounds 30] [--top 40] [--by-op] [--threads 2]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, share


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=30)
    parser.add_argument("net", nargs="?", default="lenet", help="as for train_step (%(default)s)")
    parser.add_argument("--batch", type=options.positive, default=64, help="(%(default)s)")
    parser.add_argument("--top", type=options.positive, default=40, help="lines to show (%(default)s)")
    parser.add_argument("--by-op", action="store_true", help="one line per op instead of one per call")
    chosen = options.parsed(parser, words)

    from benchmarks import nets
    from benchmarks.engines import Ours
    from cnnforge.plan.forecast import training_nodes

    spec = nets.spec(chosen.net)
    ours = Ours(spec, nets.optimizer(chosen.net), chosen.batch, chosen.backend, chosen.threads, chosen.exact_conv)
    nodes = list(training_nodes(ours.plan))
    whole = fastest_step(ours, chosen.rounds)
    seconds = fastest_calls(ours, chosen.rounds)
    total = sum(seconds)
    print(
        f"{spec.name}, batch {chosen.batch}, backend {ours.backend.name}, {chosen.threads} threads; the fastest of "
        f"{chosen.rounds} steps\nstep {whole * 1e3:.2f} ms, its {len(nodes)} calls one by one {total * 1e3:.2f} ms"
    )
    if chosen.by_op:
        by_op(nodes, seconds, chosen.markdown)
    else:
        by_call(nodes, seconds, chosen.top, chosen.markdown)


def fastest_step(ours: Any, rounds: int) -> float:
    times = []
    for _ in range(max(rounds, 2)):
        began = perf_counter()
        ours()
        times.append(perf_counter() - began)
    return min(times)


def fastest_calls(ours: Any, rounds: int) -> list[float]:
    """The smallest time of each call of the step, in order."""
    from cnnforge.plan.forecast import TRAINING

    steps = list(ours.bound.steps(*TRAINING))
    best = [float("inf")] * len(steps)

    def timed() -> Iterator[Any]:
        for i, step in enumerate(steps):
            began = perf_counter()
            yield step  # the backend runs it before it asks for the next
            best[i] = min(best[i], perf_counter() - began)

    for _ in range(rounds):
        ours.set_step()
        ours.backend.run(timed())
    return best


def by_call(nodes: Sequence[Any], seconds: Sequence[float], top: int, markdown: bool) -> None:
    total = sum(seconds)
    widths = {"op": 34, "layer": 24, "reads": 34, "writes": 20, "ms": 8, "share": 5, "GMAC/s": 6}
    table = Table(widths, words=4, markdown=markdown)
    ranked = sorted(zip(nodes, seconds, strict=True), key=lambda pair: -pair[1])
    for node, took in ranked[:top]:
        done = macs(node)
        table.row(
            node.op, layer(node), shapes(node.ins[:2]), shapes(node.outs[:1]), took * 1e3, share(took / total),
            done / took / 1e9 if done else None,
        )  # fmt: skip
    if len(ranked) > top:
        left = sum(took for _, took in ranked[top:])
        table.notes(f"and {len(ranked) - top} more calls of {left * 1e3:.2f} ms together, {share(left / total)}")


def by_op(nodes: Sequence[Any], seconds: Sequence[float], markdown: bool) -> None:
    took: dict[str, float] = defaultdict(float)
    done: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    for node, spent in zip(nodes, seconds, strict=True):
        took[node.op] += spent
        done[node.op] += macs(node)
        calls[node.op] += 1
    table = Table({"op": 34, "calls": 5, "ms": 8, "share": 5, "GMAC/s": 6}, markdown=markdown)
    for op, spent in sorted(took.items(), key=lambda pair: -pair[1]):
        rate = done[op] / spent / 1e9 if done[op] else None
        table.row(op, calls[op], spent * 1e3, share(spent / sum(seconds)), rate)


def layer(node: Any) -> str:
    """``stage1.1.conv1`` of the path of the config."""
    return ".".join(str(part) for part in node.path if part not in ("model", "layers"))


def shapes(values: Sequence[Any]) -> str:
    return " ".join("x".join(map(str, v.shape)) or "1" for v in values)


def macs(node: Any) -> int:
    """Multiply-accumulates of convolutions and products in a node, forward or backward; 0 of anything else.

    Each output position meets each weight once: N x OH x OW x (KH x KW x C/groups x F), and N x (in x units).
    """
    batch = next((v.shape[0] for v in (*node.ins, *node.outs) if v.batched), 0)
    return batch * _per_sample(node.op, node.attrs, list(node.ins), [v for v in node.outs if not v.batched])


def _per_sample(op: str, attrs: Any, ins: list[Any], gradients: list[Any]) -> int:
    """``ins``: what this op reads beside other parts of its node;  gradients: what the node writes once a batch."""
    if "parts" in attrs:
        total, at = 0, 0
        for part, count, own in attrs["parts"]:
            total += _per_sample(part, own, ins[at : at + count], gradients)
            at += count
        return total
    if not op.startswith(("conv", "matmul")):
        return 0
    axes = 4 if op.startswith("conv") else 2
    known = [v for v in ins if not v.batched] if not op.endswith("_dw") else gradients
    weights = next(v for v in known if len(v.shape) == axes)
    return prod(weights.shape) * (prod(attrs["window"].out) if axes == 4 else 1)


if __name__ == "__main__":
    options.run(main)
