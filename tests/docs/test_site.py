"""The site is built without a warning, and its pages ask no other host for anything."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.shown import DOCUMENTS, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'cnnforge[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", ".ci/mkdocs.yml"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme advertises its successor
    done = subprocess.run([*command, "--site-dir", folder], cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there(site):
    for document in DOCUMENTS:
        if document.is_relative_to(ROOT / "docs"):
            page = site / document.relative_to(ROOT / "docs").with_suffix(".html")
            assert (page.with_name("index.html") if document.stem == "README" else page).is_file()


@pytest.mark.slow
def test_the_tour_is_the_readme(site):
    tour = (site / "tour.html").read_text("utf-8")
    assert ">Two commands" in tour
    assert ">What a run leaves behind" in tour
    assert 'href="sweeps.html"' in tour
    assert "CHANGELOG.md" not in tour


@pytest.mark.slow
def test_nothing_comes_from_another_host(site):
    """Links may lead there; what a page loads may not."""
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?([^\"' >]+)", text)
        loaded += re.findall(r"<link[^>]*\srel=[\"']?(?:stylesheet|preconnect|icon|preload)[^>]*", text)
        assert loaded
        assert not [one for one in loaded if "//" in one], page.name
        assert 'class="mermaid"' not in text, "the theme would fetch a library for it"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet.name
