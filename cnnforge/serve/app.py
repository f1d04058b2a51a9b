"""The service's addresses: ``/predict``, ``/activations``, ``/model``, ``/health``, and the page."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cnnforge.errors import DataError
from cnnforge.serve.batching import Batcher, Busy, Closed
from cnnforge.serve.limits import Bodies, Limits, Refused
from cnnforge.serve.served import Served, images_of

#: Of this package's folder ``page``, by where they are served.
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/maps.js": ("maps.js", "text/javascript"),
    "/drawing.js": ("drawing.js", "text/javascript"),
}
#: Files up to so many bytes and pixels are decoded at once: a thread would take longer to answer than they take.
SMALL_FILE, SMALL_PICTURE = 1 << 14, 1 << 16
DECODERS = 2

T = TypeVar("T")
Top = Annotated[int | None, Query(ge=1, description="only so many classes, the likeliest first")]


class Mistake(BaseModel):
    """Why a request was refused."""

    what: str
    where: str
    why: str
    fix: str


_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_IMAGES = {
    "schema": {
        "type": "object", "required": ["images"],
        "properties": {"images": {"type": "array", "description": "base64 text of files, or nested lists of pixels"}},
    }
}  # fmt: skip
_PREDICTIONS = {
    "type": "array",
    "items": {"type": "object", "properties": {"class": {"type": "string"}, "probability": {"type": "number"}}},
}
_ANSWER = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"model": {"type": "string"}, "predictions": _PREDICTIONS}}
        }
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Mistake} for code in (400, 403, 408, 413, 415, 421, 422, 503)
}


def _body(*kinds: str) -> dict[str, Any]:
    content = {kind: _IMAGES if kind == "application/json" else _PICTURE for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def make_app(served: Served, largest: int = 32, wait: float = 0.0, limits: Limits | None = None) -> FastAPI:
    """The service around a model.

    largest: pictures of a batch;  wait: seconds that a batch waits to become full
    """
    limits = limits or Limits()
    batcher = Batcher(served.model.predict, largest, wait)
    bodies = Bodies(limits)
    decoders = ThreadPoolExecutor(DECODERS, "decode")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            await batcher.alone(lambda: served.warm(largest))
            yield
        decoders.shutdown()

    app = FastAPI(title=f"cnnforge serve: {served.model.spec.name}", docs_url=None, redoc_url=None, lifespan=lifespan)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)

    async def picture(content: bytes) -> NDArray[np.float32]:
        """Network input of a file."""

        if len(content) <= SMALL_FILE and served.measure(content, limits.pixels) <= SMALL_PICTURE:
            return served.input_of(content)

        def whole() -> NDArray[np.float32]:
            served.measure(content, limits.pixels)
            return served.input_of(content)

        return await _in(decoders, whole)

    @app.post("/predict", responses={200: _ANSWER, **_REFUSALS},
              openapi_extra=_body("image/*", "application/octet-stream", "application/json"))  # fmt: skip
    async def predict(request: Request, top: Top = None) -> Response:
        """Classes of a picture, the likeliest first.

        The body is a picture file, or JSON `{"images": […]}` for several: then the answer has `results`, one for each.
        """
        kind = _kind(request)
        async with bodies.read(request) as body:
            if kind == "application/json":
                inputs = await _in(decoders, lambda: _inputs(served, body, limits))
            else:
                inputs = [await picture(body)]
        answers = [served.answer(row, top) for row in await batcher.run(inputs)]
        if kind == "application/json":
            return _json({"model": served.model.spec.name, "results": answers})
        return _json({"model": served.model.spec.name, **answers[0]})

    @app.post("/activations", responses=_REFUSALS, openapi_extra=_body("image/*", "application/octet-stream"))
    async def activations(request: Request, top: Top = None) -> Response:
        """What every layer makes of a picture, for the page: maps as 8-bit numbers in base64, made smaller where they
        are large, or single numbers.
        """
        if _kind(request) == "application/json":
            raise Refused(415, "one picture file is looked into at a time", where="Content-Type",
                          why="the body is JSON", fix="send the file itself, as image/png")  # fmt: skip
        async with bodies.read(request) as body:
            x = await picture(body)
        (row,) = await batcher.run([x])
        inside = await batcher.alone(lambda: served.look_inside(x))
        return _json({"model": served.model.spec.name, **served.answer(row, top), **inside})

    @app.get("/model")
    async def model() -> Response:
        """The network, its classes, and how pictures become its input."""
        return _json(served.about() | {"limits": {"bytes": limits.bytes, "pixels": limits.pixels,
                                                  "images": limits.images, "batch": largest}})  # fmt: skip

    @app.get("/health")
    async def health() -> Response:
        """Is the service well, and what has it done?"""
        return _json({"status": "ok", "model": served.model.spec.name, "pictures": batcher.pictures,
                      "batches": batcher.batches, "waiting": batcher.waiting})  # fmt: skip

    for path, (name, media) in PAGE.items():
        content = files("cnnforge.serve").joinpath("page", name).read_bytes()
        app.add_api_route(path, _static(content, media), include_in_schema=False)
    return app


def _static(content: bytes, media: str) -> Callable[[], Any]:
    async def give() -> Response:
        return Response(content, media_type=media)

    return give


def _kind(request: Request) -> str:
    """The body's media type, where it may be one of a picture or JSON. Raises Refused."""
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind in ("application/octet-stream", "application/json") or kind.startswith("image/"):
        return kind
    raise Refused(
        415, "the body is neither a picture nor JSON", where="Content-Type",
        why="image/png and the like, application/octet-stream and application/json are read",
        fix="curl -H 'Content-Type: image/png' --data-binary @FILE …",
    )  # fmt: skip


def _inputs(served: Served, body: bytes, limits: Limits) -> list[NDArray[np.float32]]:
    """Network input of every picture of a JSON body. Raises Refused, DataError."""
    try:
        tree = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(
            400, "the body is not JSON", where="body", why="it cannot be parsed", fix='{"images": [picture, …]}'
        ) from None
    made, pixels = [], 0
    for i, image in enumerate(images_of(tree, limits.images)):
        where = f"images[{i}]"
        if not isinstance(image, str):
            made.append(served.input_of_array(image, where))
            continue
        try:
            content = b64decode(image, validate=True)
        except ValueError:
            raise Refused(422, "this is not base64", where=where, why="text is the base64 of a picture file",
                          fix="base64 -w0 FILE gives it") from None  # fmt: skip
        pixels += served.measure(content, limits.pixels - pixels, where)
        made.append(served.input_of(content, where))
    return made


def _no_constant(name: str) -> float:
    raise ValueError(name)


async def _in(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False, separators=(",", ":")), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return error.response()
    assert isinstance(error, DataError)
    return Refused(422, error.what, where=error.where, why=error.why, fix=error.fix).response()


async def _busy(request: Request, error: Exception) -> Response:
    return Refused(
        503, "the service is busy", where="POST", why="more pictures wait than may", fix="try again in a moment"
    ).response()


async def _closed(request: Request, error: Exception) -> Response:
    return Refused(503, "the service is ending", where="POST", why="it was stopped", fix="ask another").response()


async def _misasked(request: Request, error: Exception) -> Response:
    return Refused(
        422, "the query is not understood", where="top", why="it is a whole number of 1 or more", fix="?top=5"
    ).response()


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = Refused(
        error.status_code, "there is nothing of that name" if error.status_code == 404 else str(error.detail),
        where="path" if error.status_code == 404 else "method",
        why="POST /predict and /activations, GET /, /model, /health and /openapi.json are there",
        fix="one of these",
    )  # fmt: skip
    return refused.response()


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _bug(request: Request, error: Exception) -> Response:
    return _json({"what": "a bug in cnnforge", "where": "the service", "why": "its own output says more",
                  "fix": "report it with the lines that the service printed"}, 500)  # fmt: skip


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Any]] = {
    DataError: _refused,
    Busy: _busy,
    Closed: _closed,
    RequestValidationError: _misasked,
    HTTPException: _unknown,
    ClientDisconnect: _gone,
    Exception: _bug,
}
