"""A real browser without a screen, for tests of pages. Where there is none they are skipped, and say why.

::

    @pytest.mark.slow
    @needs_browser
    def test_a_page() -> None:
        with browsing() as page:
            page.goto(url)

Nothing beyond this machine is reached: such requests fail, and ``strangers(page)`` names them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

#: Looked for in this order, after what ``CHROMIUM`` names.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox: it needs rights that containers lack. The others keep it from telephoning its maker.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
_HERE = frozenset({"127.0.0.1", "localhost", "::1", ""})


def executable() -> str | None:
    """Where a Chromium is."""
    named = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else []
    return next((path for name in (*named, *NAMES) if (path := shutil.which(name))), None)


def missing() -> str:
    """Why there is no browser; empty where there is one."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install playwright"
    return "" if executable() else "no Chromium: apt-get install chromium, or CHROMIUM=/path/to/one"


needs_browser = pytest.mark.skipif(bool(missing()), reason=missing())


@contextmanager
def browsing(width: int = 1280, height: int = 900, *, dark: bool = False, touch: bool = False) -> Iterator[Any]:
    """A page of Playwright's synchronous API, in a browser of its own with nothing kept from before.

    Its console's errors are in ``complaints(page)``.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="browser-") as home, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=executable(), args=list(FLAGS), env={**os.environ, "HOME": home}
        )
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", has_touch=touch
        )
        page: Any = context.new_page()
        page.strangers, page.complaints = [], []

        def pass_or_stop(route: Any) -> None:
            if urlsplit(route.request.url).hostname in (*_HERE, None):
                route.continue_()
            else:
                page.strangers.append(route.request.url)
                route.abort()

        context.route("**/*", pass_or_stop)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        try:
            yield page
        finally:
            browser.close()


def strangers(page: Any) -> list[str]:
    """What the page asked of other machines."""
    return list(page.strangers)


def complaints(page: Any) -> list[str]:
    """Errors of its scripts and in its console."""
    return list(page.complaints)
