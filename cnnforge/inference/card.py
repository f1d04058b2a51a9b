"""The model card of a run that is done: a file of its folder, and its description in MLflow."""

from __future__ import annotations

import os
from pathlib import Path

from cnnforge.report.card import MOST_WIDE, card
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.train.folder import write_text
from cnnforge.train.work import Done

#: The file in the run folder.
CARD = "card.md"
#: Where a picture of the network is, if there is one, and others by what they show.
DIAGRAM = "plots/model.png"
PICTURES = {
    "The network": DIAGRAM,
    "First filters": "plots/filters.png",
    "Learning curves": "plots/learning_curves.png",
    "Confusion": "plots/confusion.png",
    "Most confident mistakes": "plots/mistakes.png",
}


def write_card(done: Done) -> None:
    """Write ``card.md`` and let the journal tell MLflow."""
    data = done.data
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"name": data.name, "digest": data.digest, "splits": splits, "classes": data.classes}
    there = {title: path for title, path in PICTURES.items() if _width(done.folder / path)}
    narrow = {title: path for title, path in there.items() if _width(done.folder / path) <= MOST_WIDE}
    links = {title: path for title, path in there.items() if title not in narrow}
    diagram = narrow.pop("The network", None)
    folder = os.path.relpath(done.folder)
    text = card(done.spec, done.result, about, folder=folder, diagram=diagram, pictures=narrow, links=links)
    write_text(done.folder / CARD, text)
    done.journal.artifact(CARD)
    done.journal.tags({NOTE_TAG: text})


def _width(picture: Path) -> int:
    """Pixels of a PNG file's rows, as its header says; 0 where there is none."""
    try:
        with picture.open("rb") as file:
            return int.from_bytes(file.read(24)[16:20], "big")
    except OSError:
        return 0
