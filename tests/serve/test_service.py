"""``cnnforge serve`` as a process, asked over HTTP by those it is for and by those it is not."""

from __future__ import annotations

import base64
import json
import re
import signal
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serve import service
from cnnforge import Model
from tests.serve.asking import Answer, Service, file_of, pictures, read_answer


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return Model.load(run)


def probabilities(model: Model, raw) -> list[list[float]]:
    return model.predict(model.preprocessing.apply(raw)).tolist()


def check(said, expected) -> None:
    """The likeliest first, and each class with its own probability."""
    shares = [one["probability"] for one in said["predictions"]]
    assert shares == sorted(shares, reverse=True)
    found = {one["class"]: one["probability"] for one in said["predictions"]}
    assert found == pytest.approx({str(i): p for i, p in enumerate(expected)}, abs=1e-5)


def check_refusal(answer: Answer, status: int, what: str) -> None:
    """Four parts, and nothing of the inside: no path, no address, no stack."""
    assert answer.status == status, answer.content
    assert set(answer.json) == {"what", "where", "why", "fix"}
    assert what in answer.json["what"]
    assert all(answer.json.values())
    text = answer.content.decode()
    assert not re.search(r"0x[0-9a-f]{4}|Traceback|\.py|site-packages|/tmp|/home|/work|Error\b|<_io", text), text


# What it is for


def test_a_picture_gives_its_classes(served: Service, model: Model) -> None:
    raw = pictures(3)
    for picture, expected in zip(raw, probabilities(model, raw[..., None]), strict=True):
        for kind in ("image/png", "application/octet-stream", "image/x-anything; charset=binary"):
            answer = served.post(file_of(picture), kind)
            assert answer.status == 200
            assert answer.json["model"] == "lenet"
            check(answer.json, expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_formats_without_loss(served: Service, model: Model, kind: str) -> None:
    raw = pictures(1)
    answer = served.post(file_of(raw[0], kind, **({"lossless": True} if kind == "WEBP" else {})))
    (expected,) = probabilities(model, raw[..., None])
    check(answer.json, expected)


def test_colours_and_other_sizes_become_what_training_had(served: Service, model: Model) -> None:
    for content in (
        file_of(pictures(1, 30, 20, 3)[0]),
        file_of(pictures(1, 64, 48, 4)[0]),
        file_of(pictures(1, 90, 90)[0], "JPEG"),
    ):
        (expected,) = model.predict(model.preprocessing.apply(model.preprocessing.decode(content)[None])).tolist()
        check(served.post(content).json, expected)


def test_several_in_one_request(served: Service, model: Model) -> None:
    raw = pictures(5)
    images = [base64.b64encode(file_of(raw[0])).decode(), raw[1].tolist(), raw[2][..., None].tolist(),
              raw[3].astype(float).tolist(), np.repeat(raw[4][..., None], 3, 2).tolist()]  # fmt: skip
    answer = served.post(json.dumps({"images": images}), "application/json", "/predict?top=10")
    assert answer.status == 200, answer.content
    assert len(answer.json["results"]) == 5
    expected = probabilities(model, raw[..., None])
    expected[3:4] = probabilities(model, raw[3:4, ..., None].astype(np.float32))  # not rounded when made larger
    for result, right in zip(answer.json["results"], expected, strict=True):
        check(result, right)


def test_top(served: Service) -> None:
    body = file_of(pictures(1)[0])
    everything = served.post(body).json["predictions"]
    assert served.post(body, path="/predict?top=3").json["predictions"] == everything[:3]
    assert served.post(body, path="/predict?top=1000").json["predictions"] == everything
    for top in ("0", "x", "-1", "1.5"):
        check_refusal(served.post(body, path=f"/predict?top={top}"), 422, "the query is not understood")


def test_activations(served: Service, model: Model) -> None:
    raw = pictures(1)
    answer = served.post(file_of(raw[0]), path="/activations")
    x = model.preprocessing.apply(raw[..., None])
    check(answer.json, model.predict(x)[0].tolist())
    found = model.activations(x)
    assert [layer["name"] for layer in answer.json["layers"]] == [
        "conv1", "pool1", "conv2", "pool2", "fc3", "fc4", "output",
    ]  # fmt: skip
    for layer in (answer.json["input"], *answer.json["layers"]):
        expected = x[0] if layer["name"] == "input" else found[layer["name"]][0]
        assert layer["shape"] == list(expected.shape)
        if "values" in layer:
            np.testing.assert_allclose(layer["values"], expected, rtol=1e-3, atol=1e-6)
        else:
            bits = np.frombuffer(base64.b64decode(layer["data"]), np.uint8).reshape(layer["maps"]).transpose(1, 2, 0)
            values = layer["low"] + bits / 255 * (layer["high"] - layer["low"])
            np.testing.assert_allclose(values, expected, atol=(layer["high"] - layer["low"]) / 500)


def test_what_it_says_of_itself(served: Service) -> None:
    about = served.ask("GET", "/model").json
    assert (about["model"], about["run"], about["data"]) == ("lenet", "lenet-digits", "digits")
    assert about["input"] == [32, 32, 3]
    assert about["classes"] == list("0123456789")
    assert about["pictures"] == {"size": [8, 8], "fit": "crop", "channels": 1}
    assert about["parameters"] == 62_006
    assert about["limits"]["bytes"] == 300_000
    assert about["spec"]["layers"]["conv1"]["filters"] == 6
    health = served.ask("GET", "/health").json
    assert (health["status"], health["model"]) == ("ok", "lenet")
    paths = served.ask("GET", "/openapi.json").json["paths"]
    assert set(paths) == {"/predict", "/activations", "/model", "/health"}


def test_each_of_many_clients_gets_its_own_answer(served: Service, model: Model) -> None:
    raw = pictures(80, seed=1)
    expected = probabilities(model, raw[..., None])
    before = served.ask("GET", "/health").json
    with ThreadPoolExecutor(16) as pool:
        for answer, right in zip(pool.map(served.post, map(file_of, raw)), expected, strict=True):
            check(answer.json, right)
    after = served.ask("GET", "/health").json
    assert after["pictures"] - before["pictures"] == 80
    assert after["batches"] > before["batches"]


# What it is not for


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many points, all black, in few bytes; of very many, its header alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((width + 1) * height), 9) if width * height < 1 << 26 else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


WHOLE = file_of(pictures(1, 60, 60)[0])


@pytest.mark.parametrize(
    ("body", "kind", "status", "what"),
    [
        (b"", "image/png", 400, "the body is empty"),
        (b"hello", "image/png", 415, "this is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "image/eps", 415, "this is not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "this is not a picture"),
        (WHOLE[: len(WHOLE) // 2], "image/png", 422, "the picture cannot be read to its end"),
        (WHOLE[:20], "image/png", 415, "this is not a picture"),
        (bomb(5000, 5000), "image/png", 413, "too many pixels"),
        (bomb(12000, 12000), "image/png", 413, "too many pixels"),
        (bomb(60000, 60000), "image/png", 413, "too many pixels"),
        (WHOLE, "text/plain", 415, "neither a picture nor JSON"),
        (WHOLE, "multipart/form-data; boundary=x", 415, "neither a picture nor JSON"),
        (WHOLE, "application/json", 400, "the body is not JSON"),
        (b"[" * 100_000, "application/json", 400, "the body is not JSON"),
        (b'{"images": [NaN]}', "application/json", 400, "the body is not JSON"),
        (b'{"images": [' + b"1" * 5000 + b"]}", "application/json", 400, "the body is not JSON"),
        (b"[[1, 2], [3, 4]]", "application/json", 422, 'the body is not {"images": […]}'),
        (b'{"images": []}', "application/json", 422, "0 pictures in one request"),
        (json.dumps({"images": [[[0]]] * 65}), "application/json", 422, "65 pictures in one request"),
        (b'{"images": ["!"]}', "application/json", 422, "this is not base64"),
        (b'{"images": ["aGVsbG8="]}', "application/json", 415, "this is not a picture"),
        (b'{"images": [1]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [null]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [[[1, 2], [3]]]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [[["1", "2"]]]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [[[1, 256]]]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [[[1, 1e300]]]}', "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [[[1, 1' + b"0" * 30 + b"]]]}", "application/json", 422, "this is not an array of pixels"),
        (b'{"images": [' + b"[" * 100 + b"1" + b"]" * 100 + b"]}", "application/json", 422, "not an array of pixels"),
        (json.dumps({"images": [[[0] * 5000]]}), "application/json", 413, "the array is too long"),
        (json.dumps({"images": [[[[1, 2, 3, 4]] * 8] * 8]}), "application/json", 422, "4 channels"),
        (json.dumps({"images": [base64.b64encode(bomb(3000, 3000)).decode()] * 2}), "application/json", 413, "pixels"),
    ],
)  # fmt: skip
def test_what_is_refused(served: Service, body, kind: str, status: int, what: str) -> None:
    check_refusal(served.post(body, kind), status, what)


def test_other_addresses_and_methods(served: Service) -> None:
    for method, path, status in (("GET", "/docs", 404), ("GET", "/../../etc/passwd", 404), ("GET", "/page.css/..", 404),
                                 ("GET", "/predict", 405), ("DELETE", "/model", 405)):  # fmt: skip
        answer = served.ask(method, path)
        assert answer.status == status
        assert set(answer.json) == {"what", "where", "why", "fix"}


def test_one_picture_at_a_time_is_looked_into(served: Service) -> None:
    check_refusal(served.post(b'{"images": [[[1]]]}', "application/json", "/activations"), 415, "one picture file")


def test_packed_bodies_are_not_read(served: Service) -> None:
    answer = served.ask("POST", "/predict", zlib.compress(WHOLE), "image/png", {"Content-Encoding": "deflate"})
    check_refusal(answer, 415, "a body in deflate is not read")


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large(served: Service, chunked: bool) -> None:
    """Also for a client that reads nothing before it has sent everything."""
    body = b"x" * 10_000_000
    answer = served.post((body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body)
    check_refusal(answer, 413, "the body is larger than 300,000 bytes")
    assert answer.headers["connection"] == "close"


def test_who_asks_before_sending_is_told_at_once(served: Service) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\nExpect: 100-continue\r\n\r\n"
    with served.raw(head) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


def test_lengths_that_lie(served: Service) -> None:
    picture = file_of(pictures(1)[0])
    with served.raw(HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\n" + picture) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 415 ")  # five bytes of a picture are none
    with served.raw(HEAD + b"Content-Length: %d\r\n\r\n" % (len(picture) + 9) + picture):
        pass  # it says more, and goes away
    for length in (b"-1", b"x", b"1, 2", b"9" * 30):
        with served.raw(HEAD + b"Content-Length: " + length + b"\r\n\r\n") as connection:
            assert re.match(rb"HTTP/1.1 4(00|13) ", read_answer(connection))
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with served.raw(HEAD + both + b"GET /health HTTP/1.1\r\n") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert served.post(picture).status == 200


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 9, b"GET " + b"/" * 100_000,
     b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000, HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_not_http_ends_its_connection_alone(served: Service, sent: bytes) -> None:
    with served.raw(sent) as connection:
        connection.shutdown(1)
        assert re.match(rb"HTTP/1.1 4\d\d |$", read_answer(connection))
    assert served.ask("GET", "/health").status == 200


def test_clients_that_go_away_hurt_nobody(served: Service) -> None:
    picture = file_of(pictures(1)[0])
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    for end in (len(HEAD) // 2, len(HEAD) + 5, len(whole) - 3, len(whole)):
        for _ in range(5):
            with served.raw(whole[:end]):
                pass
    assert served.post(picture).status == 200


def test_slow_clients_hold_up_nobody(served: Service) -> None:
    picture = file_of(pictures(1)[0])
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    with served.raw(whole[:10]) as a, served.raw(whole[:-4]) as b:
        for _ in range(10):
            assert served.post(picture).status == 200
        for connection, rest in ((a, whole[10:]), (b, whole[-4:])):
            connection.sendall(rest)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_headers_that_never_come_end_their_connection(served: Service) -> None:
    picture = file_of(pictures(1)[0])
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    with served.raw() as silent, served.raw(whole[:20]) as slow, served.raw(whole) as second:
        with second.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 200 ")
            headers = dict(line.lower().split(b": ", 1) for line in iter(answer.readline, b"\r\n"))
            assert len(answer.read(int(headers[b"content-length"]))) > 0
        second.sendall(whole[:20])
        assert [read_answer(connection) for connection in (silent, slow, second)] == [b"", b"", b""]


def test_names_that_it_is_not_called_by(served: Service) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "", "[::1"):
        check_refusal(served.ask("GET", "/model", headers={"Host": host}), 421, "does not answer to that name")
    for host in ("localhost", f"LOCALHOST:{served.port}", "127.0.0.1:1", "[::1]:8000"):
        assert served.ask("GET", "/model", headers={"Host": host}).status == 200


def test_pages_of_other_sites(served: Service) -> None:
    for origin in ("http://evil.example", "null", "https://localhost.evil.example", "http://["):
        answer = served.ask("POST", "/predict", WHOLE, "image/png", {"Origin": origin})
        check_refusal(answer, 403, "pages of other sites may not ask")
    answer = served.ask("POST", "/predict", WHOLE, "image/png", {"Origin": f"http://localhost:{served.port}"})
    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


FILES = [file_of(pictures(1, 12, 10)[0], kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]


@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
       st.integers(0, 4000), st.binary(max_size=20))  # fmt: skip
@settings(max_examples=100)
def test_damaged_files_are_read_or_refused(served: Service, content: bytes, flips, cut: int, more: bytes) -> None:
    damaged = bytearray(content[:cut])
    for at, byte in flips:
        if damaged:
            damaged[at % len(damaged)] = byte
    answer = served.post(bytes(damaged) + more)
    if answer.status != 200:
        assert answer.status in (400, 413, 415, 422), answer.content
        check_refusal(answer, answer.status, "")


# How it ends


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_it_answers_what_it_has_before_it_ends(run: Path, number: signal.Signals, code: int) -> None:
    with service(run, "--wait-ms", "1500", "--max-batch", "4") as (process, port):
        asked = Service(process, port)
        answers: list[Answer] = []
        client = threading.Thread(target=lambda: answers.append(asked.post(WHOLE)))
        client.start()
        while not asked.ask("GET", "/health").json["waiting"]:
            time.sleep(0.01)
        process.send_signal(number)
        client.join()
        out, err = process.communicate(timeout=60)
        assert [answer.status for answer in answers] == [200]
        assert (process.returncode, out, err) == (code, "stopped\n", "")


@pytest.mark.slow
def test_memory_stays_as_it_is(run: Path) -> None:
    """10,000 requests, bad ones among them."""
    bodies = [file_of(picture) for picture in pictures(20)] + [b"no", WHOLE[:50], bomb(5000, 5000)]
    with service(run) as (process, port):
        asked = Service(process, port)

        def ask(n: int) -> None:
            with ThreadPoolExecutor(8) as pool:
                statuses = set(pool.map(lambda i: asked.post(bodies[i % len(bodies)]).status, range(n)))
            assert statuses == {200, 413, 415, 422}

        ask(2000)
        before = asked.resident()
        ask(10_000)
        assert asked.resident() - before < 1_000_000
