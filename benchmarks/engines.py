"""Our side, and both sides of a comparison put together: the same net, the same weights, the same batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.recipe import draws, noise, recipe, torch_arrays
from cnnforge.backends import create
from cnnforge.backends.together import SINGLE, Together
from cnnforge.executable import Executable, Weights
from cnnforge.lower import train_graph
from cnnforge.model import Model
from cnnforge.optim import Optimizer
from cnnforge.plan import make_plan
from cnnforge.plan.forecast import TRAINING, training_nodes
from cnnforge.spec import ModelSpec
from cnnforge.tuning import Choice

#: Columns of PyTorch's float32 forms, the best of which counts; and two that do not: predictions by torch.jit, which
#: PyTorch 2.13 calls deprecated (its warning says: use torch.compile), and its bfloat16.
FLOAT32, TRACED, BFLOAT16 = ("eager", "channels_last", "compile"), "traced", "bfloat16"
#: As far as two right programs may differ in the first loss, relative; the second for bfloat16, of 8 bits.
CLOSE, CLOSE_BFLOAT16 = 1e-3, 5e-2

Arrays = Mapping[str, Any]


class Ours:
    """A bound training step. Called: one step. ``loss()`` is that of the last one."""

    def __init__(
        self,
        spec: ModelSpec,
        optimizer: Optimizer,
        batch: int,
        backend: str,
        threads: int,
        exact: bool = False,
        precision: str = "float32",
        together: Together = SINGLE,
    ) -> None:
        """Measures the ways of kernels first, once per machine, as training does; ``exact`` is its ``exact_conv``.

        together: the processes that do it
        """
        self.backend = create(backend, threads, together)
        self.backend.join()
        self.optimizer, self.batch, self.done = optimizer, batch, 0
        graph = train_graph(spec, batch, precision, 0, optimizer, tally=self.backend.capabilities.tallies)
        choice = Choice(backend, threads, exact=exact, device=self.backend)
        self.plan = make_plan(graph, self.backend.capabilities, choose=choice)
        choice.keep()
        self.weights = Weights(self.plan, self.backend)
        self.weights.initialise(self.plan, 0)
        self.executable = Executable(self.plan, self.backend, self.weights)
        self.bound = self.executable.bound(batch)
        self.data = noise(spec.input, spec.output[-1], batch)
        self.backend.put(self.data[0], self.bound.x)
        self.backend.put(self.data[1], self.bound.labels)

    def __call__(self) -> None:
        self.set_step()
        self.bound.run(*TRAINING)

    def set_step(self) -> None:
        """Write what changes from step to step, as the training loop does."""
        self.done += 1
        self.executable.set_step(
            step=self.done,
            draw=self.done - 1,
            first=0,
            lr=self.optimizer.lr,
            inv_n=1 / self.batch,
            scalars=self.optimizer.scalars(self.done),
        )

    def loss(self) -> float:
        return float(np.mean(self.backend.get(self.bound.outputs["loss"]), dtype="float64"))

    def arrays(self) -> dict[str, Any]:
        """Copies of weights and running statistics by name."""
        held = self.weights.params | self.weights.state
        return {name: np.array(self.backend.get(array)) for name, array in held.items()}

    def traffic(self) -> int:
        """Bytes that the kernels of one step read and write, each input and output once; workspace not counted."""
        return sum(v.nbytes for node in training_nodes(self.plan) for v in (*node.ins, *node.outs))


class OurInference:
    """What ``Model.predict`` runs, bound for one batch, without its checks and copies. Called: one batch.

    ``result()``: (N, classes)
    """

    def __init__(self, model: Model, x: Any) -> None:
        # Whatever plan predictions have, this is it: building another here could differ from what users get.
        self.bound = model._evaluation(len(x)).bound(len(x))
        model._backend.put(x, self.bound.x)

    def __call__(self) -> None:
        self.bound.run("forward", "output")

    def result(self) -> Any:
        return self.bound.read("prediction")


def model_with(spec: ModelSpec, arrays: Arrays, backend: str) -> Model:
    """A model with these weights and statistics, on as many threads as its backend takes by itself."""
    model = Model(spec, backend)
    for name, array in arrays.items():
        (model.params if name in model.params else model.state)[name] = array
    return model


@dataclass
class Sides:
    """The engines of one comparison by column, ours first, and lines worth printing once."""

    engines: dict[str, Callable[[], object]]
    notes: list[str] = field(default_factory=list)


class Rival:
    """PyTorch, where it is installed."""

    def __init__(self, threads: int, compiled: bool = True) -> None:
        """``compiled``: is torch.compile to be tried?"""
        self.missing: str | None = None
        self._compiler: Any = None
        try:
            import torch

            from benchmarks import torch_engines
        except ImportError:
            self.missing = "PyTorch is not installed: only our own times (pip install torch==2.13.0)"
            return
        torch.set_num_threads(threads)
        self._torch = torch_engines
        self._compiler = torch_engines.Compiler() if compiled else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its training steps, in order."""
        return tuple(c for c in self.inference_columns if c != TRACED)

    @property
    def inference_columns(self) -> tuple[str, ...]:
        """The columns of its predictions, in order."""
        if self.missing:
            return ()
        return tuple(c for c in (*FLOAT32, TRACED, BFLOAT16) if c != "compile" or self._compiler)

    def training(self, spec: ModelSpec, ours: Ours, start: Arrays, first: float) -> Sides:
        """Training steps from the weights ``start``, each checked: its first loss must be ``first``, ours.

        Raises AssertionError where it is not: then the two sides do not run the same net.
        """
        if self.missing:
            return Sides({}, [self.missing])
        plain = recipe(spec, ours.optimizer)
        arrays, data = torch_arrays(spec, start), ours.data
        variant = self._torch.fastest_optimizer(plain, data)

        def make(**form: bool) -> Callable[[], Any]:
            return self._torch.TrainingStep(plain, arrays, data, variant, **form)

        engines: dict[str, Callable[[], Any]] = {
            "eager": make(),
            "channels_last": make(channels_last=True),
            BFLOAT16: make(channels_last=True, bfloat16=True),
        }
        comparable = not draws(spec)
        for name, engine in engines.items():
            loss = float(engine())
            if comparable:
                same_loss(name, loss, first, CLOSE_BFLOAT16 if name == BFLOAT16 else CLOSE)
        makers = {"compile": lambda: make(channels_last=True, compiled=True)}
        for name, engine, loss in self._compiler.first_steps(makers) if self._compiler else ():
            if comparable:
                same_loss(name, float(loss), first)
            engines[name] = engine
        notes = [] if comparable else [f"{spec.name} draws random numbers: first losses are not compared"]
        words = next((name for name, chosen in variant.items() if chosen), "tensor by tensor")
        notes.append(f"{spec.name}: PyTorch's fastest form of {ours.optimizer.type} here is {words}")
        return Sides(self._ordered(engines), notes + self._compile_note())

    def inference(self, spec: ModelSpec, optimizer: Optimizer, start: Arrays, x: Any, wanted: Any) -> Sides:
        """Class probabilities for ``x``, each checked against ours, ``wanted``."""
        if self.missing:
            return Sides({}, [self.missing])
        plain, arrays = recipe(spec, optimizer), torch_arrays(spec, start)

        def make(**form: Any) -> Callable[[], Any]:
            return self._torch.Inference(plain, arrays, x, **form)

        engines: dict[str, Callable[[], Any]] = {
            "eager": make(),
            "channels_last": make(channels_last=True),
            TRACED: self._torch.faster(make(channels_last=True, form=form) for form in ("frozen", "optimized")),
            BFLOAT16: make(channels_last=True, bfloat16=True),
        }
        for name, engine in engines.items():
            same_output(name, engine(), wanted)
        makers = {"compile": lambda: make(channels_last=True, form="compiled")}
        for name, engine, found in self._compiler.first_steps(makers) if self._compiler else ():
            same_output(name, found, wanted)
            engines[name] = engine
        return Sides(self._ordered(engines), self._compile_note())

    def _ordered(self, engines: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
        return {name: engines[name] for name in (*FLOAT32, TRACED, BFLOAT16) if name in engines}

    def _compile_note(self) -> list[str]:
        return [self._compiler.missing] if self._compiler and self._compiler.missing else []


def same_loss(name: str, theirs: float, ours: float, most: float = CLOSE) -> None:
    """Raise AssertionError where two first losses differ by more than rounding: by ``most``, relative."""
    if not abs(theirs - ours) <= most * max(abs(ours), 1e-6):
        raise AssertionError(
            f"not the same net: the first loss is {ours:.6f} here and {theirs:.6f} in PyTorch ({name})"
        )


def same_output(name: str, theirs: Any, ours: Any) -> None:
    """Raise AssertionError where probabilities differ by more than rounding."""
    worst = float(np.abs(theirs.float().numpy() - ours).max())
    if not worst <= (0.2 if name == BFLOAT16 else 1e-3):
        raise AssertionError(f"not the same net: probabilities differ by {worst:.2g} from PyTorch's ({name})")
