"""Keeping what came out of a run: the journal on disk is the truth, MLflow gets a copy from a process of its own.

::

    journal = Journal(run_dir)
    sender = start(run_dir, uri=None, experiment="cnnforge", run_name="lenet")   # returns at once
    journal.params(config); journal.metrics({"train_loss": 0.7}, step=10); journal.end("finished")
    outcome = sender.finish()                                                    # bounded; says what is pending

A sweep has a journal of its own and one sender for all its trials::

    journal = Journal(sweep_dir)
    sender = start_sweep(sweep_dir, uri=None, experiment="cnnforge")
    trial_dir = sweep_dir / "trials" / "3"
    announce(trial_dir, uri=None, experiment="cnnforge", run_name="lenet-3")
    trial = Journal(trial_dir); ...; trial.end("pruned"); trial.close()          # in whatever process trains it
    journal.end("finished")
    outcome = sender.finish()
"""

from __future__ import annotations

from cnnforge.tracking.family import trial_of, trial_runs
from cnnforge.tracking.finding import find
from cnnforge.tracking.journal import Journal, Record, Status, flatten, journal_path, read
from cnnforge.tracking.sender import Outcome, Sender, announce, start, start_sweep
from cnnforge.tracking.state import mlflow_run_id

__all__ = [
    "Journal", "Outcome", "Record", "Sender", "Status", "announce", "find", "flatten", "journal_path",
    "mlflow_run_id", "read", "start", "start_sweep", "trial_of", "trial_runs",
]  # fmt: skip
