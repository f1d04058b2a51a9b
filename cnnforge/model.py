"""The public Python face: a model that checks, runs, learns and is saved, in memory and without side effects."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError

from cnnforge.backends import capabilities_of, create
from cnnforge.config import explain, read_model, validate_model
from cnnforge.errors import ConfigErrors, DataError
from cnnforge.executable import Bound, Executable, Weights
from cnnforge.ir.precision import PRECISIONS
from cnnforge.losses import LOSSES, AnyLoss, Loss
from cnnforge.lower import eval_graph, layer_role, train_graph
from cnnforge.optim import AnyOptimizer, Optimizer
from cnnforge.plan import Plan, make_plan, require_precision
from cnnforge.schedules import ConstantSchedule
from cnnforge.spec import ModelSpec
from cnnforge.tuning import Choice

if TYPE_CHECKING:
    from cnnforge.data import Preprocessing

#: Samples that inference looks at in one go; more are cut into pieces of this size.
INFERENCE_BATCH = 256


class Tensors(MutableMapping[str, NDArray[Any]]):
    """Arrays by name, e.g. ``conv1.w``. Assigning copies into the model; the names are fixed.

    On a CPU backend what you read is the model's own memory, so it changes as the model learns: copy it to keep it.
    """

    def __init__(self, backend: Any, arrays: Mapping[str, Any]) -> None:
        self._backend, self._arrays = backend, arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self._arrays[name]
        return array if isinstance(array, np.ndarray) else np.asarray(self._backend.get(array))

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Raises KeyError for a name that the model does not have, DataError for another shape."""
        array, new = self._arrays[name], np.asarray(value)
        if new.shape != tuple(array.shape):
            raise DataError(
                f"{name}: an array of shape {new.shape} cannot take its place",
                where=name,
                why=f"the model's {name} has shape {tuple(array.shape)}",
                fix="an array of that shape",
            )
        self._backend.put(new, array)

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} belongs to the model; its names are fixed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {tuple(a.shape)}" for name, a in self._arrays.items()) + "}"


class Model:
    """A network from a written-down spec.

    spec:      a dict, YAML text, or the path of a YAML file; anything wrong raises ConfigErrors with every mistake
    backend:   ``auto`` or a backend's name
    precision: ``float32`` or ``float64``; with backend ``cupy`` also ``tf32``, ``bfloat16`` or ``float16``. Of these
               parameters, and whatever goes in or comes out, are float32
    seed:      decides the initial weights and dropout

    ``params`` and ``state`` are mappings from names to arrays, assignable. Pictures are (N, H, W, C), already
    normalised; labels are class numbers (N,), 0/1 of (N,) or (N, 1) for one sigmoid unit, targets for mse.

    A model that was trained by a run also knows ``preprocessing``, which turns raw pictures into such, and the names of
    its ``classes``, where they have any.
    """

    def __init__(
        self, spec: Mapping[str, Any] | str | Path | ModelSpec, backend: str = "auto", precision: str = "float32",
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.spec = spec if isinstance(spec, ModelSpec) else validate_model(read_model(spec))
        self.precision, self.seed = precision, seed
        self.preprocessing: Preprocessing | None = None
        self.classes: tuple[str, ...] = ()
        self._backend = create(backend)
        require_precision(self._backend.capabilities, precision)
        self._dtype = PRECISIONS[precision].weights
        plan = make_plan(eval_graph(self.spec, 1, precision), self._backend.capabilities)
        self._weights = Weights(plan, self._backend)
        self._weights.initialise(plan, seed)
        self._cache: dict[tuple[object, ...], Executable] = {}

    @cached_property
    def params(self) -> Tensors:
        """Learned (or frozen) arrays by name."""
        return Tensors(self._backend, self._weights.params)

    @cached_property
    def state(self) -> Tensors:
        """What is kept but not learned, by name: running means and variances."""
        return Tensors(self._backend, self._weights.state)

    def forward(self, x: ArrayLike, training: bool = False) -> NDArray[Any]:
        """The last layer's activation: x (N, H, W, C) -> (N, units) or (N, OH, OW, F).

        With ``training`` dropout drops (as at step 0) and batch_norm uses the batch's own statistics; nothing is kept.
        """
        pictures = self._pictures(x)
        if not training:
            return self._infer(pictures, "output")
        if not len(pictures):
            return np.empty((0, *self.spec.output), self._dtype)
        executable = self._training(len(pictures), None, None)
        bound = executable.bound(len(pictures))
        self._backend.put(pictures, bound.x)
        executable.set_step(step=1, draw=0, first=0, lr=0.0, inv_n=1.0 / len(pictures), scalars=(1.0, 1.0))
        bound.run("forward", "output")
        return np.asarray(self._backend.get(bound.outputs["output"]))

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Class probabilities (N, classes), the probability of yes (N, 1), or the regression output."""
        return self._infer(self._pictures(x), "prediction")

    def activations(self, x: ArrayLike) -> dict[str, NDArray[Any]]:
        """What every layer gives, by its name in the table: x (N, H, W, C) -> each (N, OH, OW, F) or (N, units).

        In inference mode. Nothing is fused, so that numbers may differ from ``forward``'s by rounding.
        """
        pictures = self._pictures(x)
        found = {row.name: np.empty((len(pictures), *row.output), self._dtype) for row in self.spec.table}
        for low in range(0, len(pictures), INFERENCE_BATCH):
            piece = pictures[low : low + INFERENCE_BATCH]
            bound = self._evaluation(len(piece), each_layer=True).bound(len(piece))
            self._backend.put(piece, bound.x)
            bound.run("forward", "output")
            for row in self.spec.table:
                found[row.name][low : low + len(piece)] = self._backend.get(bound.outputs[layer_role(row.name)])
        return found

    def score(self, x: ArrayLike, labels: ArrayLike, loss: Loss | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """What ``predict`` gives, and the loss of each sample (N,), in inference mode.

        loss: instead of the model's own. Raises DataError where pictures or labels do not fit, or there are none.
        """
        pictures = self._pictures(x)
        chosen = self._measured(loss or self.spec.effective_loss, labels)
        if not len(pictures):
            raise DataError("no samples", where="x", why="there is nothing to score", fix="N of at least 1")
        results = np.empty((len(pictures), *self.spec.output), self._dtype)
        losses = np.empty(len(pictures), self._dtype)
        targets = self._labels(labels, len(pictures), self._evaluation(1, loss=chosen))
        for low in range(0, len(pictures), INFERENCE_BATCH):
            part = slice(low, min(low + INFERENCE_BATCH, len(pictures)))
            bound = self._evaluation(part.stop - low, loss=chosen).bound(part.stop - low)
            self._load(bound, pictures[part], targets[part])
            bound.run("forward", "output", "loss")
            results[part] = self._backend.get(bound.outputs["prediction"])
            losses[part] = self._backend.get(bound.outputs["loss"])
        return results, losses

    def loss_and_grads(
        self, x: ArrayLike, labels: ArrayLike, loss: str | Mapping[str, Any] | None = None, step: int = 0
    ) -> tuple[float, dict[str, NDArray[Any]]]:
        """The mean loss over the samples and its gradient for every trainable parameter.

        Pure: training mode, ``step`` decides dropout, and neither parameters nor running statistics change.
        """
        chosen = None if loss is None else _parse(AnyLoss, loss, "loss", LOSSES)
        pictures = self._pictures(x)
        chosen = self._measured(chosen or self.spec.effective_loss, labels)
        executable = self._training(max(1, len(pictures)), chosen, None)
        targets = self._labels(labels, len(pictures), executable)
        n = len(pictures)
        if n == 0:
            raise DataError(
                "no samples", where="x", why="a mean over no samples is not a number", fix="N of at least 1"
            )
        bound = executable.bound(n)
        self._load(bound, pictures, targets)
        executable.set_step(step=1, draw=step, first=0, lr=0.0, inv_n=1.0 / n, scalars=(1.0, 1.0))
        bound.run("forward", "loss", "backward")
        mean = float(np.asarray(self._backend.get(bound.outputs["loss"])).mean(dtype="float64"))
        return mean, {name: np.asarray(self._backend.get(g)) / n for name, g in executable.grads.items()}

    def fit(
        self,
        x: ArrayLike,
        labels: ArrayLike,
        epochs: int = 1,
        batch_size: int = 64,
        optimizer: Mapping[str, Any] | str | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> list[dict[str, float]]:
        """Train on arrays, in the loop that the command runs but without files or tracking.

        optimizer: as in YAML, e.g. ``{"type": "adam", "lr": 1e-3}`` (the default). Its state begins anew at each call.
        Returns one dict per epoch: ``train_loss``, ``train_accuracy``, ``samples_per_second``.
        """
        from cnnforge.data import Batches, Preprocessing, Split
        from cnnforge.train.loop import fit as run_loop
        from cnnforge.train.recipe import Progress, Recipe, Silent

        rule = _parse_optimizer({"type": "adam", "lr": 1e-3} if optimizer is None else optimizer)
        pictures = self._pictures(x)
        if not len(pictures):
            raise DataError("no samples", where="x", why="there is nothing to learn from", fix="N of at least 1")
        loss = self._measured(self.spec.effective_loss, labels)
        executable = self._training(min(batch_size, len(pictures)), loss, rule, exact=True)
        targets = self._labels(labels, len(pictures), executable)
        executable.restart()
        samples = Split(pictures, targets.astype("int64") if targets.dtype.kind in "iub" else targets)
        unchanged = Preprocessing.identity(self.spec.input)
        source = Batches(samples, unchanged, executable.plan.batch, seed=seed, shuffle=shuffle)
        recipe = Recipe(rule, ConstantSchedule(type="constant"), loss, epochs)
        return run_loop(executable, executable, source, None, recipe, Silent(), Progress())

    def save(self, path: str | Path) -> None:
        """Write the model into folder ``path``: ``model.json`` and ``model.safetensors``."""
        from cnnforge.train.checkpoint import About, save_model

        how = self.preprocessing.to_dict() if self.preprocessing else None
        save_model(Path(path), About(self.spec, self.precision, how, self.classes), self._weights)

    @classmethod
    def load(cls, path: str | Path, backend: str = "auto") -> Model:
        """A saved model, or a run folder: its best checkpoint, else its last, else what it left at its end.

        On a backend that does not have the precision it was trained in it computes in that of its weights, float32.
        Raises CheckpointError.
        """
        from cnnforge.data import Preprocessing
        from cnnforge.train.checkpoint import read_model as read_saved
        from cnnforge.train.checkpoint import restore, saved_in

        folder = saved_in(Path(path))
        about, tensors = read_saved(folder)
        precision = str(about["precision"])
        if precision in PRECISIONS and precision not in capabilities_of(backend).precisions:
            precision = PRECISIONS[precision].weights
        model = cls(about["spec"], backend, precision)
        restore(model._weights, tensors, folder)
        if about["preprocessing"] is not None:
            model.preprocessing = Preprocessing.from_dict(about["preprocessing"])
        model.classes = tuple(about.get("classes", ()))
        return model

    def _infer(self, pictures: NDArray[Any], role: str) -> NDArray[Any]:
        results = np.empty((len(pictures), *self.spec.output), self._dtype)
        for low in range(0, len(pictures), INFERENCE_BATCH):
            piece = pictures[low : low + INFERENCE_BATCH]
            bound = self._evaluation(len(piece)).bound(len(piece))
            self._backend.put(piece, bound.x)
            bound.run("forward", "output")
            results[low : low + len(piece)] = self._backend.get(bound.outputs[role])
        return results

    def _executable(self, plan: Plan) -> Executable:
        made = Executable(plan, self._backend, self._weights)
        self._backend.prepare(made.bound(plan.batch).steps(), _compiling)
        return made

    def _evaluation(self, batch: int, each_layer: bool = False, loss: Loss | None = None) -> Executable:
        loss = loss or self.spec.effective_loss
        key = ("eval", each_layer, loss)
        known = self._cache.get(key)
        if known is None or known.plan.batch < batch:
            graph = eval_graph(self.spec, batch, self.precision, loss, each_layer=each_layer)
            plan = make_plan(graph, self._backend.capabilities, choose=Choice(self._backend.name, None))
            known = self._cache[key] = self._executable(plan)
        return known

    def _measured(self, loss: Loss, labels: ArrayLike) -> Loss:
        """The loss with what it takes from these labels."""
        from cnnforge.data.labels import class_counts

        classes = loss.classes_to_count(self.spec.output)
        return loss.measured(class_counts(np.asarray(labels), classes)) if classes else loss

    def _training(self, batch: int, loss: Loss | None, optimizer: Optimizer | None, exact: bool = False) -> Executable:
        """A training executable for up to ``batch`` samples (exactly that many planned where ``exact``)."""
        key = ("train", loss, optimizer)
        known = self._cache.get(key)
        if known is None or known.plan.batch < batch or (exact and known.plan.batch != batch):
            tally = optimizer is not None and self._backend.capabilities.tallies
            graph = train_graph(self.spec, batch, self.precision, self.seed, optimizer, loss, tally=tally)
            choice = Choice(self._backend.name, None)
            plan = make_plan(graph, self._backend.capabilities, choose=choice)
            if exact and choice.guessed:
                untouched = Executable(plan, self._backend, self._weights).bound(batch).steps()
                self._backend.prepare(chain(choice.trials(self._backend), untouched), _compiling)
                choice.device = self._backend
                plan = make_plan(graph, self._backend.capabilities, choose=choice)
            choice.keep()
            known = self._cache[key] = self._executable(plan)
        return known

    def _load(self, bound: Bound, pictures: NDArray[Any], targets: NDArray[Any]) -> None:
        self._backend.put(pictures, bound.x)
        self._backend.put(targets, bound.labels)

    def _pictures(self, x: ArrayLike) -> NDArray[Any]:
        pictures = np.asarray(x)
        if pictures.ndim != 4 or pictures.shape[1:] != self.spec.input:
            h, w, c = self.spec.input
            raise DataError(
                f"x has shape {pictures.shape}",
                where=f"model {self.spec.name}",
                why=f"it takes (N, {h}, {w}, {c}): samples, height, width, channels",
                fix="reshape or transpose; one picture is x[None]",
            )
        return pictures.astype(self._dtype, copy=False)

    def _labels(self, labels: ArrayLike, n: int, executable: Executable) -> NDArray[Any]:
        wanted = executable.plan.inputs["labels"]
        given = np.asarray(labels)
        shape = (n, *wanted.shape[1:])
        if given.shape == (n,) and shape == (n, 1):
            given = given[:, None]
        if given.shape != shape:
            raise DataError(
                f"labels have shape {given.shape}",
                where=f"model {self.spec.name}",
                why=f"for these {n} samples the loss takes {shape}",
                fix="class numbers (N,) for softmax, 0/1 (N,) for one sigmoid unit, targets like the output for mse",
            )
        if wanted.dtype == "int64":
            classes = self.spec.output[-1]
            if given.dtype.kind not in "iu" or (n and (given.min() < 0 or given.max() >= classes)):
                raise DataError(
                    "labels are not class numbers",
                    where=f"model {self.spec.name}",
                    why=f"they are {given.dtype}" + (f" from {given.min()} to {given.max()}" if n else ""),
                    fix=f"integers from 0 to {classes - 1}",
                )
        return given


def _compiling(done: int, total: int) -> None:
    if not done:
        print(f"note: compiling {total} kernels for this machine, which happens once", file=sys.stderr)


def _parse_optimizer(value: Mapping[str, Any] | str) -> Optimizer:
    from cnnforge.optim import OPTIMIZERS

    fields = {"type": value} if isinstance(value, str) else dict(value)
    parsed: Optimizer = _parse(AnyOptimizer, fields, "optimizer", OPTIMIZERS)
    return parsed


def _parse(kind: Any, value: Any, name: str, catalogue: Mapping[str, Any]) -> Any:
    """One part of the language given from Python, with the same errors as YAML."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigErrors(explain(error, {name: value}, (name,))) from None


class _Pyfunc:
    """What ``mlflow.pyfunc`` calls: network input in, probabilities out."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, model_input: Any, params: Any = None) -> NDArray[Any]:
        """(N, H, W, C) array, already normalised -> what ``Model.predict`` gives."""
        return self._model.predict(np.asarray(model_input))


def _load_pyfunc(data_path: str) -> _Pyfunc:
    """Entry point of ``mlflow.pyfunc.load_model``: this module is the model's ``loader_module``."""
    return _Pyfunc(Model.load(data_path))
