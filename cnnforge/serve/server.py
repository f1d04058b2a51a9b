"""The server under the service: its socket, its time for headers, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cnnforge.errors import ConfigError, InterruptedRun
from cnnforge.train.signals import StopRequest

FIRST_PORT, PORTS = 8000, 20
#: Seconds in which headers must have come, once they have begun, and for which a connection may rest after an answer.
HEADER_SECONDS, SILENT_SECONDS = 10.0, 15
#: Seconds that requests under way have to end once the service is to stop.
DRAIN_SECONDS = 10
CONNECTIONS = 512


class _Protocol(H11Protocol):
    """uvicorn's, which would wait for ever for headers that have begun, or never do."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        between = self.cycle is None or self.cycle.response_complete
        if between and self._patience is None:
            self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.close)
        elif not between and self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Server(uvicorn.Server):
    """uvicorn's, which says when it can be asked."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._ready, flush=True)


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket: on ``port``, or where that is None on the first free one. Raises ConfigError."""
    if port is not None:
        return _bound(host, port)
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS - 1):
        try:
            return _bound(host, candidate)
        except _Taken:
            continue
    return _bound(host, FIRST_PORT + PORTS - 1)


class _Taken(ConfigError):
    """Another program listens there."""


def _bound(host: str, port: int) -> socket.socket:
    # The protocol is named: only then does asyncio switch off Nagle's algorithm, which costs 40 ms an answer.
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if hasattr(socket, "SO_REUSEPORT"):  # POSIX; elsewhere this option lets two programs share the port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(CONNECTIONS)
        return made
    except OverflowError:
        made.close()
        raise ConfigError(
            f"port {port} does not exist", where=f"cnnforge serve --port {port}", why="ports go from 0 to 65535",
            fix="one from 1024 on, or none for the first free one",
        ) from None  # fmt: skip
    except OSError as error:
        made.close()
        if error.errno in (98, 48, 10048, 13):  # in use (Linux, macOS, Windows), not permitted
            raise _Taken(
                f"port {port} is in use or not permitted", where=f"cnnforge serve --port {port}",
                why=error.strerror or str(error), fix="another --port, or none for the first free one",
            ) from None  # fmt: skip
        raise ConfigError(
            f"cannot listen on {host}", where=f"cnnforge serve --host {host}", why=error.strerror or str(error),
            fix="--host 127.0.0.1, or an address of this machine",
        ) from None  # fmt: skip


def serve(app: ASGIApp, at: socket.socket, ready: str) -> InterruptedRun | None:
    """Serves until Ctrl-C or SIGTERM, then lets requests under way end. Returns which of the two it was.

    ready: what is printed once it answers
    """
    config = uvicorn.Config(
        app, http=_Protocol, ws="none", loop="auto", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, lifespan="on", timeout_keep_alive=SILENT_SECONDS, limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )  # fmt: skip
    with StopRequest() as stop:  # uvicorn handles the signals itself, and passes them on when all is drained
        try:
            _Server(config, ready).run([at])
        except (KeyboardInterrupt, asyncio.CancelledError):  # a second one: not waiting for anything
            return InterruptedRun("interrupted", why="Ctrl-C twice")
    return stop.reason
