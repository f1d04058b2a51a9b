"""``cnnforge.check``: everything that is known of a model before any array exists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnforge.backends import capabilities_of
from cnnforge.lower import step_graph
from cnnforge.plan import Plan, make_plan
from cnnforge.plan.forecast import memory
from cnnforge.report.table import Check
from cnnforge.shapes import count
from cnnforge.spec import ModelSpec, RunSpec
from cnnforge.tuning import Choice


def check(spec: Mapping[str, Any] | str | Path | ModelSpec | RunSpec) -> Check:
    """Check a model, or a run with its batch size, optimizer and precision (a model by itself gets the defaults).

    spec: a dict, YAML text or the path of a YAML file with the keys of ``model``, or something validated already
    Raises ConfigErrors with every mistake, BackendError where no backend here computes in the precision asked for.
    """
    run = _run(spec)
    return report(run, plan_of(run))


def report(run: RunSpec, plan: Plan) -> Check:
    """As ``check``, of a run that has been planned."""
    return Check(
        name=run.model.name,
        input=run.model.input,
        rows=run.model.table,
        loss=run.model.effective_loss.type,
        memory=memory(plan),
        batch_size=run.trainer.batch_size,
        precision=run.trainer.precision,
        optimizer=run.optimizer.type,
        trainable_params=sum(count(dv.shape) for dv in plan.grads.values()),
    )


def plan_of(run: RunSpec, batch: int | None = None) -> Plan:
    """The plan of one training step, of the run's batch size where no other is given."""
    trainer = run.trainer
    choice = Choice(trainer.backend, trainer.threads, exact=trainer.exact_conv)
    can = capabilities_of(trainer.backend)
    return make_plan(step_graph(run, batch, tallies=can.tallies), can, choose=choice)


def _run(spec: Mapping[str, Any] | str | Path | ModelSpec | RunSpec) -> RunSpec:
    if isinstance(spec, RunSpec):
        return spec
    if isinstance(spec, ModelSpec):
        return RunSpec(model=spec)
    from cnnforge.config import read_model, validate

    return validate(read_model(spec), match_data=False)
