"""docs/course is what the library computes, and small enough to be read."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnforge.course import TOPICS
from cnnforge.course.markdown import index, written
from cnnforge.course.pages import write

PAGES = Path(__file__).parents[2] / "docs" / "course"
ANEW = "python -m cnnforge.course.pages docs/course writes it anew"


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"), float)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_committed_page_is_what_the_library_computes(topic):
    text, pictures = written(topic)
    assert (PAGES / f"{topic}.md").read_text("utf-8") == text, ANEW
    assert {file.name for file in PAGES.glob(f"{topic}-*")} == set(pictures), ANEW
    for name, content in pictures.items():
        committed = (PAGES / name).read_bytes()
        if name.endswith(".svg"):
            assert committed == content, f"{name}: {ANEW}"
            assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        else:  # another libjpeg or zlib may give other bytes, and a photograph other grey by a shade
            one, other = pixels(committed), pixels(content)
            assert one.shape == other.shape, ANEW
            assert np.abs(one - other).mean() < 2, f"{name}: {ANEW}"
        assert len(committed) < 60_000, f"{name} is {len(committed):,} bytes"


def test_the_list_of_pages():
    assert (PAGES / "README.md").read_text("utf-8") == index(), ANEW
    assert {file.stem for file in PAGES.glob("*.md")} == {*TOPICS, "README"}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_shows_all_its_pictures_and_has_as_many_answers_as_questions(topic):
    text = (PAGES / f"{topic}.md").read_text("utf-8")
    assert set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)) == {file.name for file in PAGES.glob(f"{topic}-*")}
    questions, _, answers = text.partition("## Exercises")[2].partition("## Answers")
    assert re.findall(r"^\d+\.", questions, re.M) == re.findall(r"^\d+\.", answers, re.M)
    assert questions.count(f"cnnforge explain {topic} ") >= 3


def test_what_is_no_longer_made_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnforge.course.pages.everything", lambda: {"edges.md": b"new", "edges-a.svg": b"<svg/>"})
    for name in ("edges.md", "old.md", "old-a.png", "kept.txt"):
        (tmp_path / name).write_bytes(b"old")
    write(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "edges.md": b"new", "edges-a.svg": b"<svg/>", "kept.txt": b"old",
    }  # fmt: skip
