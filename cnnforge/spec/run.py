"""A whole run: the model, the data, how to train, where results go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cnnforge.fields import Bool, Fraction, Name, NonNegativeInt, PositiveInt, Spec, mistake
from cnnforge.optim import Adam, AnyOptimizer
from cnnforge.schedules import AnySchedule, ConstantSchedule
from cnnforge.spec.augment import AugmentSpec
from cnnforge.spec.data import AnyData, DigitsData
from cnnforge.spec.early_stop import EarlyStop
from cnnforge.spec.init_from import InitFrom
from cnnforge.spec.model import ModelSpec
from cnnforge.spec.sweep import SweepSpec


class Ema(Spec):
    """``trainer.ema:`` a running average of the weights, which validation, test and the saved model then take.

    decay: the share of the average that every update keeps; 0.999 looks back about a thousand updates
    """

    decay: Fraction = 0.999

    def keep(self, update: int, total: int) -> float:
        """The share of the average that update number ``update`` (from 1) of ``total`` keeps."""
        return self.decay


class Swa(Spec):
    """``trainer.swa:`` the plain mean of the weights after every update of the run's last part, which validation, test
    and the saved model then take (stochastic weight averaging: Izmailov and others, UAI 2018, there once an epoch).

    Running statistics of norms are measured for the mean's own on a hundred training batches. The mean is worth most
    where the learning rate does not fall to 0.

    start: the share of the updates that are over when the mean begins
    """

    start: Fraction = 0.75

    def keep(self, update: int, total: int) -> float:
        """As ``Ema.keep``; 0 until the mean begins."""
        count = update - int(self.start * total)
        return 1 - 1 / count if count > 0 else 0.0


class TrainerSpec(Spec):
    """``trainer:`` how long, in what pieces, on what.

    epochs, batch_size: passes over the training samples, samples per step
    accumulate: batches whose gradients are added up before an update, as if they were one; the last update of an epoch
               takes what is left
    backend:   ``auto`` takes the fastest that works here
    precision: what weights and activations are computed in; ``tf32``, ``bfloat16`` and ``float16`` need a GPU, and keep
               weights in float32
    device:    the number of the GPU that backend ``cupy`` takes, of those that CUDA shows (``cnnforge doctor`` lists
               them); its first where not given. Of several processes each takes its own, and this is left out
    threads:   how many the backend may use; its own choice where not given
    log_every: steps between two metric records
    sync_batch_norm: where several processes share a batch, batch_norm takes the mean and variance of all of it, as one
               process does; else of each process's own part, which is faster and what other libraries do
    stats_every: steps between two looks at each layer: gradient norm, update ratio, dead units; null for none
    keep:      periodic checkpoints kept beside ``best``
    checkpoint_every: steps between two checkpoints, beside those at the end of every epoch
    max_steps: stop after so many steps, whatever the epochs
    ema:       a running average of the weights for validation, test and the saved model
    swa:       the mean of the weights over the last part of the run instead
    early_stop: end the run when validation no longer gets better
    overfit_batches: train on so many batches alone, the same in every epoch: a net that can learn gets them all right
    fast_dev_run: two steps, one batch of validation and of test, no tracking: does everything work?
    exact_conv: only convolutions that round as the definition does, which forbids Winograd's
    report:    make ``report.html`` and ``plots/`` after training; ``cnnforge report`` makes them at any time
    autotune:  where a kernel can go several ways, measure once per machine which is fastest; otherwise guess
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    backend: Literal["auto", "numpy", "numba", "cupy"] = "auto"
    precision: Literal["float32", "float64", "tf32", "bfloat16", "float16"] = "float32"
    device: NonNegativeInt | None = None
    threads: PositiveInt | None = None
    log_every: PositiveInt = 10
    stats_every: PositiveInt | None = 100
    keep: PositiveInt = 2
    checkpoint_every: PositiveInt | None = None
    max_steps: PositiveInt | None = None
    ema: Ema | None = None
    swa: Swa | None = None
    early_stop: EarlyStop | None = None
    overfit_batches: PositiveInt | None = None
    fast_dev_run: Bool = False
    exact_conv: Bool = False
    autotune: Bool = True
    sync_batch_norm: Bool = False
    report: Bool = True

    @model_validator(mode="after")
    def _one_average(self) -> TrainerSpec:
        if self.ema is not None and self.swa is not None:
            raise ValueError("there is one average of the weights: ema or swa")
        return self

    @property
    def averaging(self) -> Ema | Swa | None:
        """How weights are averaged, where they are."""
        return self.ema or self.swa


class TrackingSpec(Spec):
    """``tracking:`` where results go beside the run folder.

    enabled:    false keeps to the run folder
    uri:        MLflow's tracking URI; else ``$MLFLOW_TRACKING_URI``, else ``sqlite:///RUNS/mlflow.db``
    experiment: MLflow's experiment; else ``$MLFLOW_EXPERIMENT_NAME``, else ``cnnforge``
    log_model:  log the trained model, loadable by ``mlflow.pyfunc``
    register_as: the model becomes a version of this one in MLflow's model registry when the run has ended; of a sweep
                 ``sweep.register_as`` registers the best trial's
    """

    enabled: Bool = True
    uri: str | None = None
    experiment: str | None = None
    log_model: Bool = True
    register_as: Name | None = None

    @model_validator(mode="after")
    def _a_model_to_register(self) -> TrackingSpec:
        if self.register_as is not None and not self.log_model:
            why, fix = "what is registered is the model that was logged", "log_model: true, or no register_as"
            raise mistake(f"register_as {self.register_as}, and no model is logged", why, fix, "register_as")
        return self


class RunFolderSpec(Spec):
    """``run:`` where a run's results are.

    name: the run's; the model's and data's where not given
    dir: the folder that holds all runs
    """

    name: Name | None = None
    dir: str = "runs"


class RunSpec(Spec):
    """Everything one run says.

    model: the network
    data: which samples, and what to do with them
    augment: what is done to training pictures, each epoch anew
    init_from: first weights from another net
    optimizer: how the weights follow their gradients
    schedule: how the learning rate changes over the run
    trainer: how long, in what pieces, on what
    tracking: where results go beside the run folder
    run: its name and folder
    seed: decides the first weights, the shuffling, augmentation and dropout
    sweep: many runs instead of one
    """

    model: ModelSpec
    data: AnyData = Field(default_factory=lambda: DigitsData(type="digits"))
    augment: AugmentSpec = AugmentSpec()
    init_from: InitFrom | None = None
    optimizer: AnyOptimizer = Field(default_factory=lambda: Adam(type="adam"))
    schedule: AnySchedule = Field(default_factory=lambda: ConstantSchedule(type="constant"))
    trainer: TrainerSpec = TrainerSpec()
    tracking: TrackingSpec = TrackingSpec()
    run: RunFolderSpec = RunFolderSpec()
    seed: NonNegativeInt = 0
    sweep: SweepSpec | None = None
