"""The file itself: well formed, the same every time, and understood without being seen."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from cnnforge.errors import ConfigError
from cnnforge.report.diagram import diagram, diagram_svg
from cnnforge.report.diagram.canvas import FONTS, HEAD, Line, Picture, Text, head, pen, text_width
from cnnforge.report.diagram.svg import svg
from cnnforge.spec import ModelSpec
from tests.report.diagram.nets import ZOO, conv, dead_end, net, shipped

NAMESPACE = {"s": "http://www.w3.org/2000/svg"}


def parsed(model: ModelSpec) -> ElementTree.Element:
    return ElementTree.fromstring(diagram_svg(model))


@pytest.mark.parametrize("name", ZOO)
def test_every_shipped_network_can_be_drawn(name: str) -> None:
    root = parsed(shipped(name))
    assert root.tag == f"{{{NAMESPACE['s']}}}svg"
    words = [element.text for element in root.iterfind("s:text", NAMESPACE)]
    assert words[0] == name
    assert all(words)


def test_text_stays_text() -> None:
    words = {element.text for element in parsed(shipped("lenet")).iterfind("s:text", NAMESPACE)}
    assert {"28x28x6", "14x14x6", "10x10x16", "5x5x16", "400", "5x5 conv", "2x2 max pool", "456 params"} <= words


def test_who_cannot_see_it_is_told() -> None:
    root = parsed(shipped("lenet"))
    facts = "32x32x3 input, 5 layers with weights, 62,006 parameters, 651,720 MACs"
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext("s:title", namespaces=NAMESPACE) == f"lenet: {facts}"
    described = root.findtext("s:desc", namespaces=NAMESPACE)
    assert described is not None
    assert described.startswith(f"The network lenet as volumes: {facts}. Its layers and their outputs: conv1: conv, ")
    assert described.endswith("output: fc, 10.")
    long = parsed(shipped("resnet50")).findtext("s:desc", namespaces=NAMESPACE)
    assert long is not None
    assert long.endswith("; and 86 more.")


def test_it_stands_alone_and_beside_others() -> None:
    """Nothing is fetched, nothing runs, and no name in it can clash with one of the page that it is put into."""
    text = diagram_svg(shipped("googlenet"))
    assert not re.search(r"\b(id|class|href|src|on\w+)=|<(style|script|image|use|defs)|url\(", text)
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1


def test_the_same_in_every_process() -> None:
    code = (
        "from tests.report.diagram.nets import shipped; from cnnforge.report.diagram import diagram_svg; "
        "import sys; sys.stdout.write(diagram_svg(shipped('squeezenet1_1')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == diagram_svg(shipped("squeezenet1_1"))


def test_it_is_small() -> None:
    assert all(len(diagram_svg(shipped(name))) < 60_000 for name in ("lenet", "googlenet", "resnet50"))


def test_signs_of_markup_are_text() -> None:
    picture = Picture(10, 10, 'a "<b>" & c', "<d>", (Text(1, 2, "x < y & z"),))
    root = ElementTree.fromstring(svg(picture))
    assert root.get("aria-label") == 'a "<b>" & c'
    assert [root.findtext(f"s:{name}", namespaces=NAMESPACE) for name in ("desc", "text")] == ["<d>", "x < y & z"]


def test_kinds() -> None:
    straight = net({"a": conv(), "output": {"type": "fc", "units": 2}})
    assert diagram(straight) == diagram(straight, "volumes")
    assert diagram(straight, "blocks").description.startswith("The network net as blocks: ")
    assert diagram(shipped("resnet50"), "volumes", depth=1).description.startswith("The network resnet50 as volumes: ")
    long = net({f"a{i}": conv() for i in range(50)})
    assert diagram(long) == diagram(long, "blocks")


def test_volumes_of_what_is_not_straight() -> None:
    with pytest.raises(ConfigError) as caught:
        diagram(dead_end(), "volumes")
    assert str(caught.value) == (
        "net cannot be drawn as volumes\n  where: cnnforge draw --kind volumes\n"
        "  why:   volumes stand one behind the other, and b reads a\n  fix:   --kind blocks"
    )


def test_an_arrow_ends_in_its_tip() -> None:
    line = Line(((0, 0), (0, 50), (30, 50)), radius=10, arrow=True)
    tip, *wings = head(line)
    assert tip == (30, 50)
    assert [x for x, _ in wings] == [30 - HEAD] * 2
    assert sum(y for _, y in wings) == 100
    assert pen(line) == [
        ("M", ((0, 0),)), ("L", ((0, 40),)), ("Q", ((0, 50), (10, 50))), ("L", ((30 - HEAD, 50),)),
    ]  # fmt: skip


def test_corners_are_no_rounder_than_there_is_room() -> None:
    assert pen(Line(((0, 0), (0, 6), (30, 6)), radius=10))[1:3] == [("L", ((0, 3),)), ("Q", ((0, 6), (3, 6)))]


def test_widths_are_those_of_the_font() -> None:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font, LoadFlags

    for weight in ("normal", "bold"):
        font = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
        for letter in map(chr, range(32, 127)):
            advance = font.load_char(ord(letter), LoadFlags.NO_SCALE).horiAdvance / font.units_per_EM
            assert text_width(letter, 1000, weight == "bold") == pytest.approx(1000 * advance, abs=0.6), letter
    assert "'DejaVu Sans'" in FONTS
    assert text_width("ab", 12) == pytest.approx(12 * (0.613 + 0.635))
