"""What does a batch cost, and how long does a training step wait for one?

First the time to make a batch, by NumPy and compiled, plain and augmented. Then training steps in turns of twenty, with
batches made when they are asked for and ahead of time: the share of each step that went into getting its batch.
Pictures are noise; what is in them does not change the time.

    python -m benchmarks.batches [--model lenet] [--data mnist cifar] [--batch 64 128] [--rounds 9]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options

#: Height, width and channels as stored.
STORED = {"mnist": (28, 28, 1), "cifar": (32, 32, 3)}
SAMPLES, STEPS = 50_000, 20


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__, rounds=9)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--data", nargs="+", choices=list(STORED), default=list(STORED))
    parser.add_argument("--batch", type=options.positive, nargs="+", default=[64, 128])
    args = options.parsed(parser, words)

    from cnnforge.backends import create
    from cnnforge.config import compose, validate

    spec = validate(compose([f"model={args.model}", "augment=flip_crop"]), match_data=False)
    backend = create(args.backend, args.threads)
    for data in args.data:
        split, preprocessing = noise(STORED[data], spec.model.input)
        for batch in args.batch:
            print(f"\n{data} as {'x'.join(map(str, spec.model.input))}, batch {batch}")
            making(spec, split, preprocessing, batch, backend)
            waiting(spec, split, preprocessing, batch, backend, args.rounds)


def noise(stored: tuple[int, int, int], input: tuple[int, int, int]):
    """A split of noise, adapted to a model's input, and its preprocessing."""
    import numpy as np

    from cnnforge.data import Split
    from cnnforge.data.adapt import adaptation
    from cnnforge.data.preprocess import measure

    rng = np.random.default_rng(0)
    rule = adaptation(stored, input, "bilinear")
    x = rule.adapt(rng.integers(0, 256, (SAMPLES, *stored), dtype=np.uint8))
    return Split(x, rng.integers(0, 10, SAMPLES)), measure(rule, x, "standard")[0]


def batches(spec, split, preprocessing, batch: int, backend, augmented: bool):
    from cnnforge.data import Batches

    augment = spec.augment if augmented else None
    return Batches(split, preprocessing, batch, seed=0, shuffle=True, augment=augment, backend=backend)


def making(spec, split, preprocessing, batch: int, backend) -> None:
    """Microseconds a batch, the least and the median of an epoch's first few hundred."""
    import numpy as np

    x, labels = np.empty((batch, *spec.model.input), np.float32), np.empty(batch, np.int64)
    for augmented in (False, True):
        for name, whose in (("numpy", None), (backend.name, backend)):
            source = batches(spec, split, preprocessing, batch, whose, augmented)
            epoch, times = source.epoch(0), []
            for step in range(min(300, source.steps_per_epoch - 1)):
                began = perf_counter()
                source.fill(epoch, step, x, labels)
                times.append((perf_counter() - began) * 1e6)
            what = f"made by {name}" + ", augmented" * augmented
            print(f"  {what:<28}{min(times):>8.1f} us at least, {median(times):.1f} median", flush=True)


def waiting(spec, split, preprocessing, batch: int, backend, rounds: int) -> None:
    """Milliseconds a step and the share of it that is waiting, of the fastest fifth of steps and of all."""
    from cnnforge.data.ahead import Ahead, InTurn
    from cnnforge.executable import Executable, Weights
    from cnnforge.lower import train_graph
    from cnnforge.plan import make_plan

    plan = make_plan(train_graph(spec.model, batch, "float32", 0, spec.optimizer), backend.capabilities)
    weights = Weights(plan, backend)
    weights.initialise(plan, 0)
    train = Executable(plan, backend, weights)
    times: dict[tuple[bool, bool], list[tuple[float, float]]] = {}
    sources = {augmented: batches(spec, split, preprocessing, batch, backend, augmented) for augmented in (False, True)}
    done = 0
    for _ in range(rounds):
        for augmented, source in sources.items():
            for ahead in (False, True):
                rooms = [(b.x, b.labels) for b in (train.bound(batch, turn) for turn in ((0, 1) if ahead else (None,)))]
                supply = Ahead(source, 0, 0, STEPS, rooms) if ahead else InTurn(source, 0, 0, STEPS, *rooms)
                with supply:
                    for i in range(STEPS):
                        done += 1
                        began = perf_counter()
                        turn = supply.next()
                        got = perf_counter()
                        bound = train.bound(batch, turn)
                        scalars = spec.optimizer.scalars(done)
                        train.set_step(step=done, draw=done, first=0, lr=1e-6, inv_n=1 / batch, scalars=scalars)
                        bound.run("forward", "loss", "backward", "update")
                        if i:  # the first waits for the epoch's order
                            times.setdefault((augmented, ahead), []).append((perf_counter() - began, got - began))
    for (augmented, ahead), steps in times.items():
        fast = sorted(steps)[: max(1, len(steps) // 5)]
        what = ("ahead" if ahead else "when asked for") + ", augmented" * augmented
        text = ", ".join(
            f"{median(s for s, _ in some) * 1e3:.2f} ms a step, {sum(w for _, w in some) / sum(s for s, _ in some):.2%}"
            for some in (fast, steps)
        )
        print(f"  {what:<28}{text} waiting (the fastest fifth, all)", flush=True)


if __name__ == "__main__":
    options.run(main)
