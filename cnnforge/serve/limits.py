"""What a request may be: its host, its size, its time. Everything else is refused with a reason."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cnnforge.errors import DataError

MIB = 1 << 20
#: A client that sends too much may go on for so long and so much before it is told: whoever is cut off in the middle
#: of sending never reads the answer.
DISCARD_SECONDS, DISCARD_BYTES = 2.0, 64 * MIB
#: Nothing that is served may be kept, framed, guessed at, or loaded by another site's page.
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


@dataclass(frozen=True)
class Limits:
    """bytes: of one body;  pixels: of all pictures of one request, decoded;  images: in one request
    seconds: in which a body must have come;  held: bytes of all bodies in memory at a time
    """

    bytes: int = 8 * MIB
    pixels: int = 4096 * 4096
    images: int = 64
    seconds: float = 30.0
    held: int = 256 * MIB


class Refused(DataError):
    """A request that is not answered. ``status``: of HTTP, 4xx or 503."""

    def __init__(self, status: int, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        self.status = status

    def response(self) -> JSONResponse:
        """The four parts as JSON. Where part of the request is unread, the connection ends with it."""
        headers = {"Connection": "close"} if self.status in (408, 413) else {}
        if self.status == 503:
            headers["Retry-After"] = "1"
        return JSONResponse(self.to_dict(), self.status, headers)


class Bodies:
    """Reads bodies, and knows how much of them is in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self.held = limits, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, for as long as it is looked at. Raises Refused."""
        limits, came = self._limits, 0
        self._refuse_by_headers(request.headers)
        if (said := int(request.headers.get("content-length", "0"))) > limits.bytes:
            await _discard(request.stream(), request.headers)
            raise self._too_large(f"Content-Length is {said:,}")
        parts: list[bytes] = []
        try:
            stream = request.stream()
            try:
                async with asyncio.timeout(limits.seconds):
                    async for part in stream:
                        came += len(part)
                        self.held += len(part)
                        if came > limits.bytes:
                            break
                        if self.held > limits.held:
                            raise Refused(
                                503, "too much is being sent at the same time", where="body",
                                why="the bodies of all requests together have reached their limit",
                                fix="try again in a moment",
                            )  # fmt: skip
                        parts.append(part)
            except TimeoutError:
                raise Refused(
                    408, "the body did not come in time", where="body",
                    why=f"{came:,} bytes in {limits.seconds:g} s", fix="send it faster, or a smaller picture",
                ) from None  # fmt: skip
            if came > limits.bytes:
                parts.clear()
                await _discard(stream, request.headers)
                raise self._too_large("more than that has come")
            if not came:
                raise Refused(
                    400, "the body is empty", where="body", why="there is nothing to look at",
                    fix="send a picture file: curl -H 'Content-Type: image/png' --data-binary @FILE …",
                )  # fmt: skip
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.held -= came

    def _refuse_by_headers(self, headers: Headers) -> None:
        if (coding := headers.get("content-encoding", "identity")) != "identity":
            raise Refused(
                415, f"a body in {coding[:20]} is not read", where="Content-Encoding",
                why="how large it becomes is not known before", fix="send it as it is",
            )  # fmt: skip

    def _too_large(self, why: str) -> Refused:
        limit = self._limits.bytes
        return Refused(
            413, f"the body is larger than {limit:,} bytes", where="body", why=why,
            fix="a smaller picture, or start the service with a larger --max-bytes",
        )  # fmt: skip


async def _discard(stream: AsyncIterator[bytes], headers: Headers) -> None:
    if headers.get("expect", "").lower() == "100-continue":
        return  # it asks before it sends
    left = DISCARD_BYTES
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for part in stream:
                left -= len(part)
                if left < 0:
                    return


def is_loopback(host: str) -> bool:
    """Does only this machine reach what listens there?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, extra: Collection[str]) -> frozenset[str] | None:
    """Names under which a service that listens on ``host`` may be asked; None for any.

    A page of another site can have its own name point to this machine (DNS rebinding), and would then be of one origin
    with the service. Its name gives it away. Where anyone may ask anyway, names say nothing.
    """
    if not extra and not is_loopback(host):
        return None
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in extra)})


class Guard:
    """Stands before the service: refuses names that are not its own and pages of other sites, and sets headers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            self._refuse_strangers(Headers(scope=scope))
        except Refused as refused:
            await refused.response()(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _refuse_strangers(self, headers: Headers) -> None:
        if self._hosts is None:
            return
        host = headers.get("host", "")
        if _name(f"//{host}") not in self._hosts:
            raise Refused(
                421, "this service does not answer to that name", where="Host",
                why="it answers to localhost, 127.0.0.1 and what --allow-host names",
                fix="ask for one of these; a proxy before it wants --allow-host with the name that it passes on",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and _name(origin) not in self._hosts:
            raise Refused(
                403, "pages of other sites may not ask this service", where="Origin",
                why="it is neither its own page nor allowed", fix="ask from its own page, or from a program",
            )  # fmt: skip


def _name(url: str) -> str:
    """The host of a URL without its port; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
