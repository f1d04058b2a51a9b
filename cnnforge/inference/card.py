"""The model card of a run that is done: a file of its folder, and its description in MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnforge.report.card import MOST_WIDE, card
from cnnforge.spec import RunSpec
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.tracking.history import told
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


def keep_card(done: Done) -> None:
    """Write ``card.md`` and let the journal tell MLflow."""
    data = done.data
    splits = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    about = {"name": data.name, "digest": data.digest, "splits": splits, "classes": data.classes}
    text = _write(done.folder, done.spec, done.result, about)
    done.journal.artifact(CARD)
    done.journal.tags({NOTE_TAG: text})


def write_card(folder: Path, spec: RunSpec) -> Path:
    """Write ``card.md`` of the run in ``folder`` from what its files tell; return its place. MLflow's copy stays."""
    run = told(folder)
    _write(folder, spec, run.result, run.data)
    return folder / CARD


def _write(folder: Path, spec: RunSpec, result: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    there = {title: path for title, path in PICTURES.items() if _width(folder / path)}
    narrow = {title: path for title, path in there.items() if _width(folder / path) <= MOST_WIDE}
    links = {title: path for title, path in there.items() if title not in narrow}
    diagram = narrow.pop("The network", None)
    here = os.path.relpath(folder)
    text = card(spec, result, data, folder=here, diagram=diagram, pictures=narrow, links=links)
    write_text(folder / CARD, text)
    return text


def _width(picture: Path) -> int:
    """Pixels of a PNG file's rows, as its header says; 0 where there is none."""
    try:
        with picture.open("rb") as file:
            return int.from_bytes(file.read(24)[16:20], "big")
    except OSError:
        return 0
