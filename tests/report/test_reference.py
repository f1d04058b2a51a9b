"""The config reference is what its generator makes, and leaves nothing unsaid."""

from pathlib import Path

import pytest

from cnnforge.blocks import BLOCKS
from cnnforge.config.meaning import meanings, summary
from cnnforge.fields import PositiveInt, Spec
from cnnforge.losses import LOSSES
from cnnforge.optim import OPTIMIZERS
from cnnforge.report.reference import reference
from cnnforge.schedules import SCHEDULES
from cnnforge.spec import RunSpec
from cnnforge.spec.data import DATA
from cnnforge.spec.templates import Template

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
SECTIONS = [
    f.annotation for f in RunSpec.model_fields.values() if isinstance(f.annotation, type) and f.annotation is not int
]
CLASSES = [
    *BLOCKS.values(),
    *LOSSES.values(),
    *OPTIMIZERS.values(),
    *SCHEDULES.values(),
    *DATA,
    *SECTIONS,
    RunSpec,
    Template,
]


def test_the_committed_page_is_what_the_generator_makes():
    assert PAGE.read_text("utf-8") == reference(), "make docs"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_field_has_a_meaning(cls):
    unsaid = [name for name in cls.model_fields if name != "type" and name not in meanings(cls)]
    assert not unsaid, f"the docstring of {cls.__name__} needs a line 'name: meaning' for each"
    assert summary(cls)


def test_what_the_page_says():
    page = reference()
    assert "| `padding` | one of valid, same, or a whole number of 0 or more, or a list of 4 such | `valid` |" in page
    assert "| `filters` | a whole number above 0 | required | number of output channels |" in page
    assert all(f"### `{name}`" in page for name in (*BLOCKS, *LOSSES, *OPTIMIZERS, *SCHEDULES, "he", "npz"))
    assert page.count("### `clip`") == 1, "what every optimizer has is said once"


class Base(Spec):
    """A base.

    size: how large
    """

    size: PositiveInt


class Example(Base):
    """An example, over
    two lines.

    A second paragraph; note: not a field.

    width, height: in columns, in rows
    depth: one meaning that
        goes on
    left, right: on both sides;  last: the end
    other: not a field
    """

    width: PositiveInt
    height: PositiveInt
    depth: PositiveInt
    left: PositiveInt
    right: PositiveInt
    last: PositiveInt


def test_how_docstrings_are_read():
    assert summary(Example) == "An example, over two lines.\n\nA second paragraph; note: not a field."
    assert meanings(Example) == {
        "size": "how large",
        "width": "in columns",
        "height": "in rows",
        "depth": "one meaning that goes on",
        "left": "on both sides",
        "right": "on both sides",
        "last": "the end",
    }
