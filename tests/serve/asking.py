"""Pictures, and real HTTP to a real service."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[str]
    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request over a connection of its own. A body that is an iterator goes in chunks."""
        sent = dict(headers or {})
        if kind:
            sent["Content-Type"] = kind
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            said = connection.getresponse()
            return Answer(said.status, {k.lower(): v for k, v in said.getheaders()}, said.read())
        finally:
            connection.close()

    def post(self, body: Any, kind: str = "image/png", path: str = "/predict") -> Answer:
        return self.ask("POST", path, body, kind)

    @contextmanager
    def raw(self, sent: bytes = b"") -> Iterator[socket.socket]:
        """A connection without an HTTP library."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(sent)
            yield connection

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        with open(f"/proc/{self.process.pid}/status") as status:
            (line,) = (line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


def read_answer(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def file_of(picture: NDArray[np.uint8], kind: str = "PNG", **how: Any) -> bytes:
    """(h, w) or (h, w, 3 or 4) as a file."""
    Image.fromarray(picture).save(file := io.BytesIO(), kind, **how)
    return file.getvalue()


def pictures(n: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *(shape or (8, 8))), dtype=np.uint8)
