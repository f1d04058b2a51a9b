"""The model card of a run that is done: a file of its folder, and its description in MLflow."""

from __future__ import annotations

import os

from cnnforge.report.card import card
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.train.folder import write_text
from cnnforge.train.work import Done

#: The file in the run folder.
CARD = "card.md"
#: Where a picture of the network is, if there is one, and others that are narrow enough for MLflow's pages, by what
#: they show: a wider one would be cut off there.
DIAGRAM = "plots/model.png"
PICTURES = {
    "Confusion": "plots/confusion.png",
    "Most confident mistakes": "plots/mistakes.png",
    "First filters": "plots/filters.png",
}


def write_card(done: Done) -> None:
    """Write ``card.md`` and let the journal tell MLflow."""
    data = done.data
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"name": data.name, "digest": data.digest, "splits": splits, "classes": data.classes}
    there = {title: path for title, path in PICTURES.items() if (done.folder / path).is_file()}
    diagram = DIAGRAM if (done.folder / DIAGRAM).is_file() else None
    folder = os.path.relpath(done.folder)
    text = card(done.spec, done.result, about, folder=folder, diagram=diagram, pictures=there)
    write_text(done.folder / CARD, text)
    done.journal.artifact(CARD)
    done.journal.tags({NOTE_TAG: text})
