"""The model card of a run that is done: a file of its folder, and its description in MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping

from cnnforge.report.card import card
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.train.folder import write_text
from cnnforge.train.work import Done

#: The file in the run folder.
CARD = "card.md"
#: Files of a run folder that a card shows where they are there, and what they show; a diagram stands above the table.
PICTURES = {
    "plots/model.png": "the network",
    "plots/learning_curves.png": "learning curves",
    "plots/confusion.png": "confusion matrix",
}


def write_card(done: Done, pictures: Mapping[str, str] = PICTURES) -> None:
    """Write ``card.md`` and let the journal tell MLflow. pictures: what files of the run folder show, by path."""
    data = done.data
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"name": data.name, "digest": data.digest, "splits": splits, "classes": data.classes}
    there = {title: path for path, title in pictures.items() if (done.folder / path).is_file()}
    text = card(done.spec, done.result, about, folder=os.path.relpath(done.folder), pictures=there)
    write_text(done.folder / CARD, text)
    done.journal.artifact(CARD)
    done.journal.tags({NOTE_TAG: text})
