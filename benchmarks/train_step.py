"""How fast is a training step beside PyTorch's?

Same net, same starting weights, same batch, forward + loss + backward + Adam, in turn: a round times some steps of
ours, then some of PyTorch's, then of PyTorch's channels_last. Medians over the rounds, and the ratio round by round.

    python benchmarks/train_step.py [--model lenet] [--batch 64 128] [--rounds 9] [--steps 10] [--threads 2]
        [--backend numba numpy]
"""

from __future__ import annotations

import argparse
import os
from statistics import median
from time import perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--backend", nargs="+", default=["auto"], help="ours; ratios are to the first")
    args = parser.parse_args()
    # Read by BLAS when NumPy is imported, so before anything else.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)

    from cnnforge.config import compose, validate

    spec = validate(compose([f"model={args.model}"]), match_data=False).model
    print(f"{args.model}, float32, Adam, {args.threads} threads, {args.rounds} rounds of {args.steps} steps")
    print(f"{'batch':>5}  {'engine':<24}{'ms/step':>9}{'samples/s':>11}   time of this / the first: median (min..max)")
    for batch in args.batch:
        measure(spec, batch, args)


def measure(spec, batch: int, args) -> None:
    engines = {f"cnnforge {name}": Ours(spec, batch, name, args.threads) for name in args.backend}
    first, ours = next(iter(engines.items()))
    engines |= theirs(spec, batch, args.threads, ours.params)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for run in engines.values():
        for _ in range(3):
            run()
    for _ in range(args.rounds):
        for name, run in engines.items():
            start = perf_counter()
            for _ in range(args.steps):
                run()
            times[name].append((perf_counter() - start) / args.steps)
    mine = times[first]
    for name, seconds in times.items():
        line = f"{batch:>5}  {name:<24}{median(seconds) * 1e3:>9.2f}{batch / median(seconds):>11,.0f}"
        if name != first:
            ratios = [theirs / own for theirs, own in zip(seconds, mine, strict=True)]
            line += f"   {median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        print(line, flush=True)
    plan = ours.plan
    shared, unshared = plan.sizes["arena"], plan.unshared
    print(
        f"{'':>5}  arena {shared / 2**20:.1f} MiB, unshared {unshared / 2**20:.1f} MiB: "
        f"{shared / unshared:.0%}; no placement is below {plan.bound / 2**20:.1f} MiB"
    )


class Ours:
    """One bound training step."""

    def __init__(self, spec, batch: int, backend_name: str, threads: int) -> None:
        import numpy as np

        from cnnforge.backends import create
        from cnnforge.executable import Executable, Weights
        from cnnforge.lower import train_graph
        from cnnforge.optim import Adam
        from cnnforge.plan import make_plan

        backend = create(backend_name, None if backend_name == "numpy" else threads)
        self.optimizer = Adam(type="adam")
        self.plan = make_plan(train_graph(spec, batch, "float32", 0, self.optimizer), backend.capabilities)
        weights = Weights(self.plan, backend)
        weights.initialise(self.plan, 0)
        self.params = {name: backend.get(array) for name, array in weights.params.items()}
        self.executable = Executable(self.plan, backend, weights)
        self.bound = self.executable.bound(batch)
        self.x, self.labels = noise(spec, batch)
        backend.put(self.x, self.bound.x)
        backend.put(np.asarray(self.labels), self.bound.labels)
        self.batch, self.done = batch, 0

    def __call__(self) -> None:
        self.done += 1
        scalars = self.optimizer.scalars(self.done)
        self.executable.set_step(
            step=self.done, draw=self.done, first=0, lr=1e-3, inv_n=1 / self.batch, scalars=scalars
        )
        self.bound.run("forward", "loss", "backward", "update")


def noise(spec, batch: int):
    """A batch of noise and labels for it; what is in a picture does not change the time."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, *spec.input)).astype("float32"), rng.integers(0, spec.output[-1], batch)


def theirs(spec, batch: int, threads: int, params) -> dict:
    """PyTorch eager, with contiguous and with channels_last tensors; nothing where it is not installed."""
    try:
        import torch
        from torch_net import build, copy_weights
    except ImportError:
        print("PyTorch is not installed: only our own time (pip install torch==2.13.0)")
        return {}
    torch.set_num_threads(threads)

    def engine(memory_format):
        net = build(spec)
        copy_weights(spec, params, net)
        net = net.to(memory_format=memory_format)
        x, labels = noise(spec, batch)
        pictures = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        targets = torch.from_numpy(labels)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, foreach=True)
        criterion = torch.nn.CrossEntropyLoss()

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            criterion(net(pictures), targets).backward()
            optimizer.step()

        return step

    return {
        "PyTorch eager": engine(torch.contiguous_format),
        "PyTorch channels_last": engine(torch.channels_last),
    }


if __name__ == "__main__":
    main()
