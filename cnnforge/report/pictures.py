"""docs/pictures: diagrams of shipped networks.

``python -m cnnforge.report.pictures docs/pictures`` writes them; a test holds the committed ones to this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnnforge.config import read_model, validate_model
from cnnforge.config.sources import shipped
from cnnforge.report.diagram import diagram_svg

#: The networks that pages show.
SHOWN = ("lenet", "googlenet", "resnet50")


def pictures(folder: Path) -> dict[str, str]:
    """The text of each picture by the name of its file. folder: of the networks' files"""
    return {f"{name}.svg": diagram_svg(validate_model(read_model(folder / f"{name}.yaml"))) for name in SHOWN}


if __name__ == "__main__":
    to = Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    for file, text in pictures(shipped() / "model").items():
        (to / file).write_text(text, "utf-8")
