"""Fetching files from a real server of our own: whole, cut short, resumed, wrong, absent."""

import gzip
import threading
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from cnnforge.data import cifar10, download, idx, load
from cnnforge.data.download import FetchError, Remote, fetch
from cnnforge.errors import DataError
from cnnforge.spec import MnistData

CONTENT = bytes(range(256)) * 4000


class Handler(SimpleHTTPRequestHandler):
    """Knows ranges; ends after ``cut`` bytes of an answer where that is set."""

    cut: int | None = None
    ranges = True
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        begin = self.headers.get("Range")
        Handler.asked.append(begin or "whole")
        start = int(begin.removeprefix("bytes=").rstrip("-")) if begin and Handler.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: Handler.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.delenv(download.OFFLINE)
    served = tmp_path / "served"
    served.mkdir()
    (served / "file.bin").write_bytes(CONTENT)
    monkeypatch.setattr(Handler, "cut", None)
    monkeypatch.setattr(Handler, "ranges", True)
    monkeypatch.setattr(Handler, "asked", [])
    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/"
    made.shutdown()
    made.server_close()


def remote(*urls, digest=None):
    return Remote("file.bin", urls, digest or md5(CONTENT).hexdigest())


def test_a_file_arrives_whole_and_once(server, tmp_path):
    said = []
    for _ in range(2):
        fetch([remote(server + "file.bin")], tmp_path / "into", said.append)
    assert (tmp_path / "into" / "file.bin").read_bytes() == CONTENT
    assert Handler.asked == ["whole"]
    assert said == [f"downloading file.bin (1.0 MB) from {server}file.bin"]
    assert [f.name for f in (tmp_path / "into").iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_was_cut_short_is_resumed(server, tmp_path, monkeypatch, ranges):
    monkeypatch.setattr(Handler, "cut", 300_000)
    with pytest.raises(FetchError, match=r"the connection ended after 300,000 of 1,024,000 bytes|IncompleteRead"):
        fetch([remote(server + "file.bin")], tmp_path, print)
    assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / ".file.bin.part").stat().st_size == 300_000
    monkeypatch.setattr(Handler, "cut", None)
    monkeypatch.setattr(Handler, "ranges", ranges)
    fetch([remote(server + "file.bin")], tmp_path, print)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert Handler.asked == ["whole", "bytes=300000-"]


def test_a_whole_file_without_its_name_is_taken(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    fetch([remote(server + "file.bin")], tmp_path, print)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_other_bytes_are_refused_and_another_address_is_asked(server, tmp_path):
    with pytest.raises(FetchError, match="other bytes than published"):
        fetch([remote(server + "file.bin", digest="0" * 32)], tmp_path, print)
    assert not list(tmp_path.glob("*file.bin*"))
    fetch([remote("http://127.0.0.1:9/nobody", server + "file.bin")], tmp_path, print)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_the_digest_of_what_is_inside(server, tmp_path):
    (tmp_path / "served" / "a.gz").write_bytes(gzip.compress(b"hello"))
    fetch([Remote("a.gz", (server + "a.gz",), md5(b"hello").hexdigest(), inside=True)], tmp_path, print)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"hello"


def test_mnist_is_fetched_where_no_place_has_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)
    rng, digests = np.random.default_rng(0), []
    for name, shape in zip(idx.NAMES, ((50, 28, 28), (50,), (9, 28, 28), (9,)), strict=True):
        header = bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4, "big") for n in shape)
        content = header + rng.integers(0, 10, shape, np.uint8).tobytes()
        digests.append(md5(content).hexdigest())
        (tmp_path / "served" / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(idx, "MNIST", tuple(digests))
    monkeypatch.setattr(idx, "MNIST_URLS", (server,))
    data = MnistData(type="mnist")
    with pytest.raises(DataError, match="the data files are not there"):
        load(data.model_copy(update={"download": False}), (28, 28, 1), 0)
    said = []
    found = load(data, (28, 28, 1), 0, said.append)
    assert (len(found.train), len(found.test)) == (45, 9)
    assert len(said) == 4
    assert "cache" in found.source


def test_without_a_network_there_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNNFORGE_DATA", raising=False)
    with pytest.raises(DataError) as error:
        load(MnistData(type="mnist", root=str(tmp_path / "mine")), (28, 28, 1), 0)
    said = str(error.value)
    assert "could not be downloaded: CNNFORGE_OFFLINE is set" in said
    assert "data.root" in said
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.setattr(idx, "MNIST_URLS", ("http://127.0.0.1:9/", "http://nowhere.invalid/"))
    with pytest.raises(DataError, match="could not be downloaded") as error:
        load(MnistData(type="mnist"), (28, 28, 1), 0)
    assert "http://127.0.0.1:9/train-images-idx3-ubyte.gz: " in str(error.value)
    assert "http://nowhere.invalid/" in str(error.value)
    assert cifar10.PUBLISHED.name in cifar10.ARCHIVES
