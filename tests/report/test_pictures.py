"""The pictures of the pages are made from the files."""

from pathlib import Path

import pytest

from cnnforge.report.pictures import SHOWN, pictures

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"


@pytest.mark.parametrize("name", SHOWN)
def test_the_committed_pictures_are_the_generated_ones(name):
    made = pictures(ROOT / "configs" / "model")[f"{name}.svg"]
    assert (FOLDER / f"{name}.svg").read_text("utf-8") == made, "make pictures writes it anew"
