"""How many pictures does ``cnnforge serve`` answer in a second?

The service runs as its own process, over loopback. Clients are connections of another process that stay open; each
sends one PNG, waits for the answer, compares every probability with ``Model.predict``'s, and sends the next. Nothing is
counted that was not compared.

latency: from the first byte sent to the last received, in milliseconds. batch: pictures of an average batch.

    python -m benchmarks.serve [--net lenet …] [--clients 1 8 32] [--seconds 5] [--wait-ms 0 2]
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.table import Table, milliseconds

#: Answers per second of lenet, from eight clients, at least.
GOAL = 300
#: Two ways to batch a picture may round differently.
NEAR = 1e-5
#: Different pictures that clients send.
PICTURES = 200


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--net", nargs="+", default=["lenet"], help="(lenet)")
    parser.add_argument("--clients", nargs="+", type=options.positive, default=[1, 8, 32], help="(1 8 32)")
    parser.add_argument("--wait-ms", nargs="+", default=["0"], help="the service's own option (0)")
    parser.add_argument("--seconds", type=float, help="of each row (5, with --quick 0.5)")
    chosen = options.parsed(parser, words)
    os.environ["NUMBA_NUM_THREADS"] = str(chosen.threads)  # the service's
    seconds = chosen.seconds or (0.5 if chosen.quick else 5.0)
    print(f"cnnforge serve, digits as PNG, {seconds:g} s a row; of lenet from 8 clients at least {GOAL} a second")
    columns = {"net": 10, "wait ms": 7, "clients": 7, "answers/s": 9, "latency": 8, "p99": 8, "batch": 6, "wrong": 5}
    table = Table(columns, words=2, markdown=chosen.markdown)
    for net in chosen.net:
        with tempfile.TemporaryDirectory() as folder:
            run = saved_run(Path(folder) / "run", f"model={net}")
            bodies, expected = examples(run)
            for wait in chosen.wait_ms:
                with service(run, "--wait-ms", wait) as (_, port):
                    for clients in chosen.clients:
                        before = health(port)
                        found = in_a_process(port, bodies, expected, clients, seconds)
                        after = health(port)
                        batches = after["batches"] - before["batches"]
                        table.row(
                            net, wait, clients, found.rate, milliseconds(median(found.latencies)),
                            milliseconds(quantiles(found.latencies, n=100)[98]),
                            (after["pictures"] - before["pictures"]) / max(1, batches), found.wrong,
                        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """rate: right answers per second;  latencies: seconds;  wrong: answers that differ from ``Model.predict``'s"""

    rate: float
    latencies: list[float]
    wrong: int


def saved_run(folder: Path, *overrides: str, epochs: int = 0) -> Path:
    """A run folder as ``cnnforge train`` leaves it behind, as far as a service reads it; trained for ``epochs``."""
    from cnnforge import Model
    from cnnforge.config import compose, run_text, validate
    from cnnforge.data import load

    spec = validate(compose(overrides))
    data = load(spec.data, spec.model.input, spec.seed)
    model = Model(spec.model)
    model.preprocessing, model.classes = data.preprocessing, data.class_names
    if epochs:
        train = data.preprocessing.normalize(data.train.x)
        model.fit(train, data.train.y, epochs, 16, {"type": "adam", "lr": 1e-3})
    model.save(folder / "checkpoints" / "best")
    (folder / "config.yaml").write_text(run_text(spec))
    (folder / "journal.jsonl").touch()
    return folder


def examples(run: Path) -> tuple[list[bytes], list[dict[str, float]]]:
    """Digits as PNG, and the probability of each class that ``Model.predict`` gives."""
    from PIL import Image

    from cnnforge import Model
    from cnnforge.data import digits
    from cnnforge.spec import DigitsData

    model = Model.load(run)
    assert model.preprocessing is not None
    raw = digits.read(DigitsData(type="digits")).train.x[:PICTURES]
    bodies = []
    for picture in raw:
        Image.fromarray(picture[..., 0]).save(file := io.BytesIO(), "PNG")
        bodies.append(file.getvalue())
    rows = model.predict(model.preprocessing.apply(raw))
    return bodies, [dict(zip(model.classes, row.tolist(), strict=True)) for row in rows]


@contextmanager
def service(run: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``cnnforge serve`` as a process, and its port, once it answers. Ends with the block."""
    command = [sys.executable, "-m", "cnnforge", "serve", str(run), "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://[^ ]*:(\d+)", line):
                break
        else:
            raise RuntimeError(f"the service did not start: {process.stderr.read()}")
        yield process, int(found[1])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def health(port: int) -> dict[str, Any]:
    """What ``/health`` says."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/health") as answer:
        said: dict[str, Any] = json.load(answer)
        return said


def in_a_process(
    port: int, bodies: list[bytes], expected: list[dict[str, float]], clients: int, seconds: float
) -> Found:
    """What ``clients`` connections of another process find."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_all, (port, bodies, expected, clients, seconds))


def _all(port: int, bodies: list[bytes], expected: list[dict[str, float]], clients: int, seconds: float) -> Found:
    return asyncio.run(_together(port, bodies, expected, clients, seconds))


async def _together(
    port: int, bodies: list[bytes], expected: list[dict[str, float]], clients: int, seconds: float
) -> Found:
    began = time.perf_counter()
    end = began + seconds
    lists = await asyncio.gather(*(_client(port, bodies, expected, i, end) for i in range(clients)))
    took = time.perf_counter() - began
    latencies = [one for found, _ in lists for one in found]
    wrong = sum(count for _, count in lists)
    return Found((len(latencies) - wrong) / took, latencies, wrong)


async def _client(
    port: int, bodies: list[bytes], expected: list[dict[str, float]], number: int, end: float
) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies, wrong, i = [], 0, number
    while time.perf_counter() < end:
        body, probabilities = bodies[i % len(bodies)], expected[i % len(bodies)]
        began = time.perf_counter()
        writer.write(
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        content = await reader.readexactly(int(length[1]))
        latencies.append(time.perf_counter() - began)
        said = {one["class"]: one["probability"] for one in json.loads(content).get("predictions", [])}
        right = said.keys() == probabilities.keys() and all(abs(said[k] - p) < NEAR for k, p in probabilities.items())
        wrong += not right
        i += 7
    writer.close()
    return latencies, wrong


if __name__ == "__main__":
    options.run(main)
