"""Do nets learn here what they learn in PyTorch?

The same net from the same starting weights sees the same batches in the same order, here and in PyTorch, for a few
epochs, with several seeds; then both are tested. Rounding takes the two sides apart within a hundred steps, so the
figures differ as two seeds do, and no more.

MNIST: LeNet-5's layers by Adam. CIFAR-10: lenet by Adam, and resnet20 with --nets, by SGD with momentum.

    python -m benchmarks.accuracy [--epochs 5] [--seeds 3] [--cifar FILE.npz] [--nets lenet5/mnist …] [--curve]

FILE.npz holds xtrain, ytrain, xtest, ytest: pictures (n, 32, 32, 3) uint8 and class numbers. MNIST is found as
``data=mnist`` finds it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table

#: By which optimizer each net learns here: rates at which it does.
LEARNING: dict[str, dict[str, Any]] = {"resnet20": {"type": "sgd", "lr": 0.05, "momentum": 0.9}}
ADAM = {"type": "adam", "lr": 1e-3}
BATCH, TEST_BATCH = 64, 500


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--epochs", type=options.positive, default=5, help="passes over the data (%(default)s)")
    parser.add_argument("--seeds", type=options.positive, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--cifar", help="CIFAR-10 as one file; without it only MNIST")
    parser.add_argument("--nets", nargs="+", help="NET/mnist or NET/cifar, instead of lenet5/mnist lenet/cifar")
    parser.add_argument("--curve", action="store_true", help="say the accuracy after every epoch too")
    chosen = options.parsed(parser, words)
    pairs = chosen.nets or ["lenet5/mnist", *(["lenet/cifar"] if chosen.cifar else [])]
    print(f"test accuracy after {chosen.epochs} epochs in batches of {BATCH}, {chosen.seeds} seeds")
    columns = {"net": 10, "data": 6, "side": 8, "mean": 7, "each": 24, "seconds": 8}
    table = Table(columns, words=3, markdown=chosen.markdown)
    for net, _, name in (pair.partition("/") for pair in pairs):
        sides: dict[str, list[tuple[float, float]]] = {"ours": [], "PyTorch": []}
        for seed in range(chosen.seeds):
            for side, found in learn(net, name, seed, chosen).items():
                sides[side].append(found)
        for side, found in sides.items():
            if found:
                each = " ".join(f"{accuracy:.2%}" for accuracy, _ in found)
                table.row(net, name, side, f"{mean(a for a, _ in found):.2%}", each, mean(s for _, s in found))


def learn(net: str, name: str, seed: int, chosen: Any) -> dict[str, tuple[float, float]]:
    """{side: (test accuracy, seconds of training)}."""
    import numpy as np
    from pydantic import TypeAdapter

    from benchmarks import nets
    from benchmarks.engines import Ours, Rival
    from cnnforge.optim import AnyOptimizer

    spec = nets.spec(net)
    optimizer: Any = TypeAdapter(AnyOptimizer).validate_python(LEARNING.get(net, ADAM))
    x, y, x_test, y_test = data(name, spec.input, chosen.cifar)
    orders = [np.random.default_rng((seed, epoch)).permutation(len(x)) for epoch in range(chosen.epochs)]

    ours = Ours(spec, optimizer, BATCH, chosen.backend, chosen.threads)
    ours.weights.initialise(ours.plan, seed)
    start = ours.arrays()

    def step(rows: Any) -> None:
        ours.backend.put(x[rows], ours.bound.x)
        ours.backend.put(y[rows], ours.bound.labels)
        ours()

    def tested() -> float:
        return accuracy(ours_predict(spec, ours.arrays(), chosen), x_test, y_test)

    took = trained(step, orders, "ours", tested if chosen.curve else None)
    results = {"ours": (tested(), took)}
    if Rival(chosen.threads).missing is None:
        theirs, predict = rival_of(spec, optimizer, start, x, y)
        took = trained(theirs, orders, "PyTorch", (lambda: accuracy(predict, x_test, y_test)) if chosen.curve else None)
        results["PyTorch"] = (accuracy(predict, x_test, y_test), took)
    return results


def trained(
    step: Callable[[Any], None], orders: Sequence[Any], side: str = "", tested: Callable[[], float] | None = None
) -> float:
    """Seconds that whole batches of every epoch took. tested: is asked and printed after each, outside of the time."""
    took = 0.0
    for epoch, order in enumerate(orders, 1):
        began = perf_counter()
        for low in range(0, len(order) - BATCH + 1, BATCH):
            step(order[low : low + BATCH])
        took += perf_counter() - began
        if tested is not None:
            print(f"  {side:<8} epoch {epoch:>2}  {tested():7.2%}  {took:6.0f} s", flush=True)
    return took


def accuracy(predict: Callable[[Any], Any], x: Any, y: Any) -> float:
    """Share of ``x`` whose class is found."""
    right = sum(
        int((predict(x[low : low + TEST_BATCH]).argmax(1) == y[low : low + TEST_BATCH]).sum())
        for low in range(0, len(x), TEST_BATCH)
    )
    return right / len(x)


def ours_predict(spec: Any, arrays: Any, chosen: Any) -> Callable[[Any], Any]:
    from cnnforge import Model

    model = Model(spec, chosen.backend)
    for held in (model.params, model.state):
        for name in held:
            held[name] = arrays[name]
    return model.predict


def rival_of(
    spec: Any, optimizer: Any, start: Any, x: Any, y: Any
) -> tuple[Callable[[Any], None], Callable[[Any], Any]]:
    """(a training step on these rows, class probabilities), channels_last."""
    import torch
    from torch import nn

    from benchmarks.recipe import recipe, torch_arrays
    from benchmarks.torch_engines import net_of, pictures_of
    from benchmarks.torch_net import optimizer_of

    plain = recipe(spec, optimizer)
    net = net_of(plain, torch_arrays(spec, start)).to(memory_format=torch.channels_last)
    update, loss = optimizer_of(plain["optimizer"], net, fused=True), nn.CrossEntropyLoss()

    def step(rows: Any) -> None:
        update.zero_grad(set_to_none=True)
        loss(net(pictures_of(x[rows], True)), torch.from_numpy(y[rows])).backward()
        update.step()

    def predict(pictures: Any) -> Any:
        net.eval()
        with torch.inference_mode():
            found = net(pictures_of(pictures, True)).numpy()
        net.train()
        return found

    return step, predict


def data(name: str, picture: tuple[int, int, int], cifar: str | None) -> tuple[Any, Any, Any, Any]:
    """(training pictures, classes, test pictures, classes), normalised to the training pictures' mean and deviation."""
    import numpy as np

    if name == "mnist":
        from pydantic import TypeAdapter

        from cnnforge.data import load
        from cnnforge.spec import MnistData

        spec = TypeAdapter(MnistData).validate_python({"type": "mnist", "validation": 0})
        found = load(spec, picture, seed=0)
        train, test = (found.preprocessing.normalize(s.x) for s in (found.train, found.test))
        return train, found.train.y.astype("int64"), test, found.test.y.astype("int64")
    with np.load(str(cifar)) as arrays:
        x, y, x_test, y_test = (arrays[key] for key in ("xtrain", "ytrain", "xtest", "ytest"))
    scale = np.float32(x.mean()), np.float32(x.std())
    train, test = ((pictures.astype("float32") - scale[0]) / scale[1] for pictures in (x, x_test))
    return train, y.astype("int64"), test, y_test.astype("int64")


if __name__ == "__main__":
    options.run(main)
