"""Keeping what came out of a run: the journal on disk is the truth, MLflow gets a copy from a process of its own.

::

    journal = Journal(run_dir)
    sender = start(run_dir, uri=None, experiment="cnnforge", run_name="lenet")   # returns at once
    journal.params(config); journal.metrics({"train_loss": 0.7}, step=10); journal.end("finished")
    outcome = sender.finish()                                                    # bounded; says what is pending
"""

from __future__ import annotations

from cnnforge.tracking.finding import find
from cnnforge.tracking.journal import Journal, Record, Status, flatten, journal_path, read
from cnnforge.tracking.sender import Outcome, Sender, start
from cnnforge.tracking.state import mlflow_run_id

__all__ = [
    "Journal", "Outcome", "Record", "Sender", "Status", "find", "flatten", "journal_path", "mlflow_run_id",
    "read", "start",
]  # fmt: skip
