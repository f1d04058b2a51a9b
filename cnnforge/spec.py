"""What a run may say: the root of the config language, and the walk that works out every shape before any array exists.

Blocks, losses, optimizers, schedules and initialisers state their own fields in their own rooms; everything else that
YAML may say is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cnnforge.blocks import AnyBlock, Block, Flatten
from cnnforge.blocks.base import Param
from cnnforge.errors import ConfigError, ConfigErrors, Path, ShapeError, suggest
from cnnforge.fields import Bool, Fraction, Name, NonNegativeFloat, NonNegativeInt, PositiveInt, Spec, one_of
from cnnforge.losses import AnyLoss, Loss, default_loss
from cnnforge.optim import Adam, AnyOptimizer
from cnnforge.schedules import AnySchedule, ConstantSchedule
from cnnforge.shapes import UNKNOWN_SIZE, Pair, ReceptiveField, Shape, Window, count

LAYERS: Path = ("model", "layers")


@dataclass(frozen=True, slots=True)
class Row:
    """One layer with everything that is known about it without data. Shapes carry no batch axis.

    macs: multiply-accumulates per sample, of conv and linear only
    field: the receptive field of one output position on the model's input
    """

    name: str
    block: Block
    input: Shape
    output: Shape
    window: Window | None
    params: Mapping[str, Param]
    state: Mapping[str, tuple[Shape, float]]
    macs: int
    field: ReceptiveField

    @property
    def type(self) -> str:
        return self.block.type

    @property
    def activation_size(self) -> int:
        """Numbers in the output of one sample."""
        return count(self.output)

    @property
    def param_count(self) -> int:
        return sum(count(p.shape) for p in self.params.values())

    @property
    def trainable_count(self) -> int:
        return 0 if self.block.frozen else self.param_count


class ModelSpec(Spec):
    """``model:`` a name, an input (height, width, channels), layers in order, a loss where it is not the usual one."""

    name: Name
    input: tuple[PositiveInt, PositiveInt, PositiveInt]
    layers: dict[Name, AnyBlock]
    loss: AnyLoss | None = None

    @cached_property
    def table(self) -> tuple[Row, ...]:
        """A row per layer, the implied flatten included. Raises ConfigErrors with every mistake."""
        rows, errors = walk(self.input, self.layers)
        if errors:
            raise ConfigErrors(errors)
        return tuple(rows)

    @property
    def output(self) -> Shape:
        return self.table[-1].output

    @property
    def last_activation(self) -> str:
        """The function that the last layer ends with, or ``none``."""
        return ending(self.table[-1].block)

    @property
    def effective_loss(self) -> Loss:
        """The loss as stated, or the one that follows from the last activation."""
        return self.loss or default_loss(self.last_activation)


def ending(block: Block) -> str:
    """The activation function that a block's output went through last."""
    return str(getattr(block, "function", None) or getattr(block, "activation", "none"))


def ordered(layers: Mapping[str, Block]) -> tuple[dict[str, Block], list[ConfigError]]:
    """Layers in running order: as written, except that ``after: NAME`` puts a layer behind another."""
    names = [name for name, block in layers.items() if block.after is None]
    errors: list[ConfigError] = []
    waiting = {name: block.after for name, block in layers.items() if block.after is not None}
    while waiting:
        ready = {name: after for name, after in waiting.items() if after in names}
        if not ready:
            for name, after in waiting.items():
                circle = after in waiting
                errors.append(
                    ConfigError(
                        f"{name}: 'after' names {'a layer that waits for this one' if circle else 'no layer'}: {after}",
                        path=(*LAYERS, name, "after"),
                        why="layers are " + ", ".join(layers),
                        fix=suggest(str(after), names) or "name a layer of this model",
                    )
                )
            break
        # Several layers after the same one keep the order in which they were written.
        for name, after in reversed(ready.items()):
            names.insert(names.index(str(after)) + 1, name)
            del waiting[name]
    return {name: layers[name] for name in names}, errors


def walk(x: Shape, layers: Mapping[str, Block], path: Path = LAYERS) -> tuple[list[Row], list[ConfigError]]:
    """Work out every row from input shape ``x``, going on after a mistake with what is still known.

    After a window that does not fit, height and width count as unknown (so the same mistake is not reported again by
    every later layer) while channels are still checked.
    """
    if not layers:
        why = "a network needs at least one layer"
        return [], [ConfigError("the model has no layers", path=path, why=why, fix="add a conv or fc under layers:")]
    layers, errors = ordered(layers)
    rows: list[Row] = []
    field, size = ReceptiveField(), (x[0], x[1])  # size: height and width that the next fc sees whole
    for name, block in layers.items():
        if block.type == "fc" and len(x) > 1:
            flat = Flatten(type="flatten")
            rows.append(_row(_free("flatten", layers), flat, x, field, size))
            x = rows[-1].output
        try:
            row = _row(name, block, x, field, size)
        except ShapeError as error:
            errors.append(
                ShapeError(
                    f"{name}: {error.what}",
                    path=(*path, name),
                    context=f"input {_shown(x)}" if UNKNOWN_SIZE not in x else "",
                    why=error.why,
                    fix=error.fix,
                )
            )
            x = _recovered(block, x)
        else:
            rows.append(row)
            x, field = row.output, row.field
        size = (x[0], x[1]) if len(x) == 3 else (1, 1) if block.is_global() else size
    return rows, errors


def _row(name: str, block: Block, x: Shape, field: ReceptiveField, size: Pair) -> Row:
    output = block.output(x)
    window = block.window(x)
    params = block.params(x)
    for param in params.values():
        param.init.check(param.shape)
    if window is not None:
        field = field.through(window)
    elif block.is_global():
        field = field.whole(size)
    return Row(name, block, x, output, window, params, block.state(x), block.macs(x), field)


def _free(name: str, taken: Iterable[str]) -> str:
    return name if name not in taken else f"{name}_"


def _shown(x: Shape) -> str:
    return f"({', '.join(map(str, x))})" if len(x) > 1 else f"({x[0]})"


def _recovered(block: Block, x: Shape) -> Shape:
    """The most that can be said of a wrong block's output."""
    if len(x) == 1 and block.type != "fc":
        return x
    channels = getattr(block, "filters", x[-1])
    return UNKNOWN_SIZE, UNKNOWN_SIZE, int(channels)


class _Data(Spec):
    """What every data set's config has.

    root:       folder of the files; where it lacks them, ``$CNNFORGE_DATA/NAME``, then the user's cache
    validation: share of the training samples held out for validation, drawn at random by ``seed``
    normalize:  ``standard`` to mean 0 and deviation 1 per channel, measured on the training samples;
                ``unit`` to [0, 1]: 8-bit pixels / 255, floats by the least and greatest training value; ``none``
    resize:     what to do where pictures are not as large as the model's input
    limit:      use only so many training samples, the first ones of the random draw that makes the splits
    """

    type: str
    root: str | None = None
    validation: Fraction = 0.1
    normalize: Literal["standard", "unit", "none"] = "standard"
    resize: Literal["bilinear", "nearest", "pad", "refuse"] = "bilinear"
    limit: PositiveInt | None = None

    def shape(self) -> Shape | None:
        """(H, W, C) of a picture as stored, where it is known without reading; else None."""
        return None

    def class_count(self) -> int | None:
        """Number of classes, where it is known without reading; else None."""
        return None


class DigitsData(_Data):
    """``digits``: 1,797 real handwritten digits, 8x8x1, that come with scikit-learn (UCI Optical Recognition, 1998).

    test: share of the samples held out for the test
    """

    type: Literal["digits"]
    test: Fraction = 0.2

    def shape(self) -> Shape:
        return 8, 8, 1

    def class_count(self) -> int:
        return 10


class MnistData(_Data):
    """``mnist``: 60,000 + 10,000 handwritten digits, 28x28x1, IDX files, plain or gzip (LeCun et al., 1998)."""

    type: Literal["mnist"]

    def shape(self) -> Shape:
        return 28, 28, 1

    def class_count(self) -> int:
        return 10


class NpzData(_Data):
    """``npz``: your own arrays in one NumPy file: ``x`` and ``y``, or ``x_train, y_train, x_test, y_test``.

    path:    the file; a relative path is looked for in ``root``, in the working directory, then as other files are
    layout:  ``channels_first`` takes (N, C, H, W)
    classes: number of classes; needed for a classifier, so that a mistake shows before the file is read
    test:    share held out for the test where the file has no test arrays; likewise ``validation`` and ``x_val, y_val``
    """

    type: Literal["npz"]
    path: str
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    classes: PositiveInt | None = None
    test: Fraction = 0.2

    def class_count(self) -> int | None:
        return self.classes


class SyntheticData(_Data):
    """``synthetic``: blurred class patterns plus noise, made on the spot: for tests and timing, not for learning.

    samples: training samples;  test_samples: the same for the test
    size:    (height, width, channels), the model's input where not given
    noise:   deviation of the noise beside patterns of deviation 1
    """

    type: Literal["synthetic"]
    samples: PositiveInt = 1024
    test_samples: PositiveInt = 256
    classes: PositiveInt = 10
    size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    noise: NonNegativeFloat = 0.5

    def shape(self) -> Shape | None:
        return self.size

    def class_count(self) -> int:
        return self.classes


DATA = (DigitsData, MnistData, NpzData, SyntheticData)
DataSpec = _Data
if TYPE_CHECKING:
    AnyData = _Data
else:
    AnyData = one_of(DATA)


class TrainerSpec(Spec):
    """``trainer:`` how long, in what pieces, on what.

    epochs, batch_size: passes over the training samples, samples per step
    backend:   ``auto`` takes the fastest that works here
    precision: what parameters and activations are computed in
    log_every: steps between two metric records
    keep:      periodic checkpoints kept beside ``best``
    max_steps: stop after so many steps, whatever the epochs
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    backend: Literal["auto", "numpy", "numba", "cupy"] = "auto"
    precision: Literal["float32", "float64", "tf32", "bfloat16", "float16"] = "float32"
    log_every: PositiveInt = 10
    keep: PositiveInt = 2
    max_steps: PositiveInt | None = None


class TrackingSpec(Spec):
    """``tracking:`` where results go beside the run folder.

    enabled:    false keeps to the run folder
    uri:        MLflow's tracking URI; else ``$MLFLOW_TRACKING_URI``, else ``sqlite:///RUNS/mlflow.db``
    experiment: MLflow's experiment
    log_model:  log the trained model, loadable by ``mlflow.pyfunc``
    """

    enabled: Bool = True
    uri: str | None = None
    experiment: str = "cnnforge"
    log_model: Bool = True


class RunFolderSpec(Spec):
    """``run:`` the run's name (the model's and data's where not given) and the folder that holds all runs."""

    name: Name | None = None
    dir: str = "runs"


class RunSpec(Spec):
    """Everything one run says."""

    model: ModelSpec
    data: AnyData = Field(default_factory=lambda: DigitsData(type="digits"))
    optimizer: AnyOptimizer = Field(default_factory=lambda: Adam(type="adam"))
    schedule: AnySchedule = Field(default_factory=lambda: ConstantSchedule(type="constant"))
    trainer: TrainerSpec = TrainerSpec()
    tracking: TrackingSpec = TrackingSpec()
    run: RunFolderSpec = RunFolderSpec()
    seed: NonNegativeInt = 0


def diagnose(tree: Mapping[str, Any]) -> list[ConfigError]:
    """Every mistake of the model that pydantic cannot see: shapes, references, the loss against the output.

    ``tree`` is a run's config, possibly with other mistakes in it: whatever is still known is checked, which is every
    layer up to the first that is wrong by itself.
    """
    model = tree.get("model")
    if not isinstance(model, Mapping) or "layers" not in model or not _is_shape(model.get("input")):
        return []
    layers = {} if model["layers"] is None else model["layers"]
    if not isinstance(layers, Mapping):
        return []
    blocks = _valid_prefix(layers)
    if len(blocks) < len(layers):
        _, errors = walk(tuple(model["input"]), {n: b.model_copy(update={"after": None}) for n, b in blocks.items()})
        return errors if blocks else []
    rows, errors = walk(tuple(model["input"]), blocks)
    return errors or _diagnose_loss(model, rows)


def _is_shape(x: Any) -> bool:
    return isinstance(x, list | tuple) and len(x) == 3 and all(type(n) is int and n > 0 for n in x)


def _valid_prefix(layers: Mapping[str, Any]) -> dict[str, Block]:
    """The layers up to the first that is not valid by itself."""
    adapter: TypeAdapter[Block] = TypeAdapter(AnyBlock)
    blocks: dict[str, Block] = {}
    for name, fields in layers.items():
        try:
            blocks[str(name)] = adapter.validate_python(fields)
        except ValidationError:
            break
    return blocks


def _diagnose_loss(model: Mapping[str, Any], rows: list[Row]) -> list[ConfigError]:
    """As ``_loss_mistake``, for a loss that may be wrong by itself."""
    try:
        stated: Loss | None = TypeAdapter(AnyLoss).validate_python(model["loss"]) if model.get("loss") else None
    except ValidationError:
        return []
    return _loss_mistake(stated, rows[-1])


def _loss_mistake(stated: Loss | None, last: Row) -> list[ConfigError]:
    """Does the loss make sense for what the last layer gives?"""
    try:
        (stated or default_loss(ending(last.block))).labels(last.output)
    except ShapeError as error:
        return [ShapeError(f"{last.name}: {error.what}", path=(*LAYERS, last.name), why=error.why, fix=error.fix)]
    return []


def mistakes(model: ModelSpec) -> list[ConfigError]:
    """As ``diagnose``, of a model that pydantic has accepted."""
    rows, errors = walk(model.input, model.layers)
    return errors or _loss_mistake(model.loss, rows[-1])


def data_mismatch(model: ModelSpec, data: DataSpec) -> list[ConfigError]:
    """What the model's output and the data's labels say of each other, where they disagree."""
    loss, last, classes = model.effective_loss, model.table[-1], data.class_count()
    path: Path = (*LAYERS, last.name)
    if loss.type == "mse":
        if classes is None:
            return []
        return [
            ConfigError(
                f"{last.name}: the loss is mse, and data '{data.type}' has class numbers for labels",
                path=path,
                why=f"mse compares the output {_shown(last.output)} with targets of the same shape",
                fix=f"end with {{type: fc, units: {classes}, activation: softmax}}, or data=npz with targets",
            )
        ]
    if classes is None:
        return [
            ConfigError(
                "the number of classes is not known",
                path=("data",),
                why=f"the loss is {loss.type}, and data '{data.type}' does not say how many classes it has",
                fix=f"data.classes: {last.output[-1]}",
            )
        ]
    if loss.type == "sigmoid_cross_entropy":
        if last.output == (1,) and classes == 2:
            return []
        return [
            ConfigError(
                f"{last.name}: {last.output[-1]} sigmoid unit{'s' * (last.output[-1] > 1)} for {classes} classes",
                path=path,
                why="one sigmoid unit answers one yes-or-no question: 2 classes",
                fix=f"units: {classes} with activation: softmax, or data of 2 classes",
            )
        ]
    if last.output != (classes,):
        shape = f"{last.output[0]} units" if len(last.output) == 1 else f"an output of {_shown(last.output)}"
        return [
            ConfigError(
                f"{last.name}: {shape} for {classes} classes",
                path=(*path, "units") if last.type == "fc" else path,
                why=f"data '{data.type}' has {classes} classes, one output for each",
                fix=f"units: {classes}" if last.type == "fc" else f"end with {{type: fc, units: {classes}}}",
            )
        ]
    return []
