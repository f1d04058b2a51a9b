"""The page to draw on: what it is made of, and itself in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serve import saved_run, service
from cnnforge.serve.app import PAGE
from tests.serve.asking import Service, file_of, pictures
from tests.waiting import wait_for

CHROMIUM = Path("/usr/bin/chromium")
NO_BROWSER = "" if CHROMIUM.exists() and find_spec("playwright") else "needs Chromium and the package playwright"
#: Points of a stroke, from 0 to 1: a digit as a hand draws it, in a corner of the paper.
THREE = [(0.16, 0.16), (0.24, 0.10), (0.36, 0.10), (0.43, 0.18), (0.40, 0.27), (0.28, 0.32), (0.41, 0.36), (0.46, 0.46),
         (0.41, 0.56), (0.28, 0.60), (0.16, 0.53)]  # fmt: skip
TWO = [(0.3, 0.3), (0.36, 0.2), (0.5, 0.16), (0.65, 0.22), (0.68, 0.36), (0.58, 0.52), (0.3, 0.83), (0.75, 0.83)]
ONE = [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)]
ZERO = [
    (0.5, 0.2),
    (0.36, 0.28),
    (0.3, 0.5),
    (0.36, 0.72),
    (0.5, 0.8),
    (0.64, 0.72),
    (0.7, 0.5),
    (0.64, 0.28),
    (0.5, 0.2),
]


@pytest.mark.parametrize("path", PAGE)
def test_the_page_is_served_and_asks_nobody_else(served: Service, path: str) -> None:
    name, media = PAGE[path]
    answer = served.ask("GET", path)
    assert answer.status == 200
    assert answer.content == files("cnnforge.serve").joinpath("page", name).read_bytes()
    assert answer.headers["content-type"].startswith(media)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    text = answer.content.decode()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), "everything comes from the service itself"
    assert not re.search(r"<script(?! type=\"module\" src)|<style| style=| on[a-z]+=", text), "the policy forbids these"


def test_every_file_of_the_page_is_served() -> None:
    there = {entry.name for entry in files("cnnforge.serve").joinpath("page").iterdir()}
    assert there == {name for name, _ in PAGE.values()}


# In a browser

#: Milliseconds. The policy forbids a page to evaluate text, also what a test would wait for: it looks from outside.
PATIENCE = 60_000


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if NO_BROWSER:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=flags)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that reads digits."""
    run = saved_run(tmp_path_factory.mktemp("runs") / "reader", "model=lenet", epochs=20)
    with service(run) as (process, port):
        yield Service(process, port)


@pytest.fixture
def page(browser: Any, reader: Service) -> Iterator[Any]:
    """The page, in which nothing may go wrong silently."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error"
              and "Failed to load resource" not in message.text else None)  # fmt: skip
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith((f"http://127.0.0.1:{reader.port}/", "data:", "blob:"))
              or complaints.append(asked.url))  # fmt: skip
    opened.goto(f"http://127.0.0.1:{reader.port}/")
    expect(opened.locator("#classes li")).to_have_count(10, timeout=PATIENCE)
    yield opened
    opened.close()
    assert not complaints


def draw(page: Any, stroke: list[tuple[float, float]]) -> None:
    box = page.locator("#paper").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def await_class(page: Any, name: str) -> None:
    expect(page.locator("#classes .first .name")).to_have_text(name, timeout=PATIENCE)


@pytest.mark.slow
def test_what_is_drawn_is_read(page: Any) -> None:
    for stroke, digit in ((THREE, "3"), (TWO, "2"), (ONE, "1"), (ZERO, "0")):
        draw(page, stroke)
        await_class(page, digit)
        assert re.fullmatch(rf"{digit}, \d+\.\d%", page.locator("#status").inner_text())
        page.click("#clear")
        expect(page.locator("#classes .first")).to_have_count(0, timeout=PATIENCE)
        assert page.locator("#layers").inner_text() == "Nothing yet."


@pytest.mark.slow
def test_every_layer_is_shown_with_its_size(page: Any) -> None:
    draw(page, THREE)
    await_class(page, "3")
    titles = page.locator(".layer h3").all_inner_texts()
    assert [re.sub(r"\s+", " ", title).split(",")[0] for title in titles] == [
        "input 32×32×3", "conv1 conv 28×28×6", "pool1 pool 14×14×6", "conv2 conv 10×10×16", "pool2 pool 5×5×16",
        "fc3 fc 120", "fc4 fc 84", "output fc 10",
    ]  # fmt: skip
    lit = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    assert all(page.locator(".layer canvas").nth(i).evaluate(lit) > 2 for i in range(8))
    assert page.locator("#given-size").inner_text() == "8×8"


@pytest.mark.slow
def test_undo_and_framing(page: Any) -> None:
    draw(page, ONE)
    await_class(page, "1")
    draw(page, [(0.1, 0.1), (0.9, 0.9)])
    page.click("#undo")
    await_class(page, "1")
    given = "document.getElementById('given').toDataURL()"
    before = page.evaluate(given)
    page.select_option("#framing", "drawn")
    wait_for(lambda: page.evaluate(given) != before)


@pytest.mark.slow
def test_a_file_instead_of_a_drawing(page: Any, reader: Service) -> None:
    content = file_of(pictures(1)[0])
    page.set_input_files("#file", {"name": "noise.png", "mimeType": "image/png", "buffer": content})
    await_class(page, reader.post(content).json["predictions"][0]["class"])
    page.set_input_files("#file", {"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#status.wrong")).to_have_count(1, timeout=PATIENCE)
    assert page.locator("#status").inner_text().startswith("this is not a picture\n")
    draw(page, THREE)  # and on with drawing
    await_class(page, "3")


@pytest.mark.slow
def test_on_a_phone(browser: Any, reader: Service) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True, device_scale_factor=3
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{reader.port}/")
    expect(page.locator("#classes li")).to_have_count(10, timeout=PATIENCE)
    touch = context.new_cdp_session(page)
    box = page.locator("#paper").bounding_box()
    for i, (x, y) in enumerate(TWO):
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    await_class(page, "2")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("window.scrollY") == 0, "a finger draws, it does not scroll"
    context.close()
