"""``cnnforge.check``: everything that is known of a model before any array exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnforge.backends import capabilities_of
from cnnforge.lower import train_graph
from cnnforge.plan import Plan, make_plan
from cnnforge.plan.forecast import memory
from cnnforge.report.table import table
from cnnforge.spec import ModelSpec, Row, RunSpec

if TYPE_CHECKING:
    from cnnforge.shapes import Shape


@dataclass(frozen=True)
class Check:
    """A model's layers and what training it takes; prints as a table.

    rows:   one per layer, the implied flatten included, the input not
    memory: bytes by purpose for training with ``batch_size``, ``precision`` and ``optimizer``; ``total`` is their sum
    """

    name: str
    input: Shape
    rows: tuple[Row, ...]
    loss: str
    memory: Mapping[str, int]
    batch_size: int
    precision: str
    optimizer: str

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(row.param_count for row in self.rows)

    @property
    def trainable_params(self) -> int:
        """Number of weights that training changes."""
        return sum(row.trainable_count for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's way forward, of conv and linear."""
        return sum(row.macs for row in self.rows)

    @property
    def weighted_layers(self) -> int:
        """Layers as courses count them: those with weights."""
        return sum(bool(row.params) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The numbers as ``cnnforge check --json`` prints them.

        Its ``workspace`` is everything that has no name of its own there: kernels' workspace, running statistics and
        the step block.
        """
        kept = {name: self.memory[name] for name in ("params", "gradients", "optimizer", "activations")}
        return {
            "model": self.name,
            "input": list(self.input),
            "layers": [
                {
                    "name": row.name,
                    "type": row.type,
                    "output": list(row.output),
                    "activation_size": row.activation_size,
                    "params": row.param_count,
                    "macs": row.macs,
                    "receptive_field": list(row.field.size),
                }
                for row in self.rows
            ],
            "params": self.params,
            "trainable_params": self.trainable_params,
            "macs": self.macs,
            "memory": kept | {"workspace": self.memory["total"] - sum(kept.values()), "total": self.memory["total"]},
        }

    def __str__(self) -> str:
        return table(self)


def check(spec: Mapping[str, Any] | str | Path | ModelSpec | RunSpec) -> Check:
    """Check a model, or a run with its batch size, optimizer and precision (a model by itself gets the defaults).

    spec: a dict, YAML text or the path of a YAML file with the keys of ``model``, or something validated already
    Raises ConfigErrors with every mistake, BackendError where no backend here computes in the precision asked for.
    """
    run = _run(spec)
    return Check(
        name=run.model.name,
        input=run.model.input,
        rows=run.model.table,
        loss=run.model.effective_loss.type,
        memory=memory(plan_of(run)),
        batch_size=run.trainer.batch_size,
        precision=run.trainer.precision,
        optimizer=run.optimizer.type,
    )


def plan_of(run: RunSpec) -> Plan:
    """The plan of one training step."""
    trainer = run.trainer
    graph = train_graph(run.model, trainer.batch_size, trainer.precision, run.seed, run.optimizer)
    return make_plan(graph, capabilities_of(trainer.backend))


def _run(spec: Mapping[str, Any] | str | Path | ModelSpec | RunSpec) -> RunSpec:
    if isinstance(spec, RunSpec):
        return spec
    if isinstance(spec, ModelSpec):
        return RunSpec(model=spec)
    from cnnforge.config import read_model, validate

    return validate(read_model(spec), match_data=False)
