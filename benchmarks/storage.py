"""How much do a sweep's storage and its tracker take, and how much is sent between processes that share a training?

Storage: 1 or more drivers, each a process, share a study of ours and do what a driver does of a trial, but for the
training: claim it, report 5 epochs, say what came of it. Trials/s: claimed and told, all drivers together, until none
of ``--points`` is left or ``--seconds`` are over. Signs/s: signs of life, of which a driver gives one in 30 s. Journal
file and SQLite lie in the system's folder for temporary files; PostgreSQL is a server of its own on this host, or the
one that ``--url`` names.

Tracker: batches of 20 metrics that one or more processes write to one MLflow database of SQLite.

Gradients: bytes of each net's gradients, float32, and the seconds that one sum of them over N processes takes on the
network alone, where every process sends and receives 2 (N - 1) / N of them (a ring; Patarasuk and Yuan 2009).

    python -m benchmarks.storage [--drivers 1 4] [--seconds 5] [--url postgresql+psycopg://…] [--gbit 10]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import options
from benchmarks.alone import ROOT
from benchmarks.servers import no_postgres, postgres, proxy
from benchmarks.table import Table, milliseconds

#: Reports of a trial: epochs.
EPOCHS = 5
#: Metrics of one batch, as the sender of a run sends them.
METRICS = 20
NETS = ("lenet5", "resnet20", "vgg16", "resnet50")


def main(words: Sequence[str] | None = None) -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--drivers", type=options.positive, nargs="+", default=[1, 4], help="at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure (%(default)s)")
    parser.add_argument("--points", type=options.positive, default=200, help="enqueued at first (%(default)s)")
    parser.add_argument("--url", help="of an empty database to measure instead of a PostgreSQL of its own")
    parser.add_argument("--gbit", type=float, default=10.0, help="of the network, in Gbit/s (%(default)s)")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "WHERE"), help=argparse.SUPPRESS)  # be one of the processes
    chosen = options.parsed(parser, words)
    if chosen.one is not None:
        print_one(*chosen.one, chosen.seconds, chosen.points)
        return
    if chosen.quick:
        chosen.seconds, chosen.drivers, chosen.points = 0.3, chosen.drivers[:1], 5
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        table = Table({"storage": 16, "drivers": 7, "trials/s": 8, "reports/s": 9, "signs/s": 8, "errors": 6},
                      markdown=chosen.markdown)  # fmt: skip
        for name, where in storages(Path(folder), servers, chosen.url):
            for drivers in chosen.drivers:
                table.row(name, drivers, *together("study", f"{where} {drivers}", drivers, chosen))
        table.notes(*([why] if (why := no_postgres()) and not chosen.url else []))
        print()
        table = Table({"tracker": 16, "processes": 9, "batches/s": 9, "errors": 6}, markdown=chosen.markdown)
        for writers in chosen.drivers:
            where = f"sqlite:///{folder}/mlflow{writers}.db"
            rates = together("mlflow", where, writers, chosen)
            table.row("MLflow, SQLite", writers, rates[0], rates[-1])
    print()
    table = Table({"net": 16, "MB": 6, "ms, 2": 8, "ms, 64": 8, "ms, 1024": 8}, markdown=chosen.markdown)
    for net in NETS:
        size = gradient_bytes(net)
        table.row(net, size / 1e6, *(milliseconds(ring(size, n, chosen.gbit)) for n in (2, 64, 1024)))
    table.notes(f"a sum over N processes at {chosen.gbit:g} Gbit/s, without latency")


def storages(folder: Path, servers: ExitStack, url: str | None) -> Iterator[tuple[str, str]]:
    """(name, where) of each kind that this host has."""
    yield "journal file", str(folder / "study.journal")
    yield "SQLite", f"sqlite:///{folder / 'study.db'}"
    if url is None and no_postgres():
        return
    url = url or servers.enter_context(postgres())
    yield "PostgreSQL", url
    yield "gRPC, PostgreSQL", servers.enter_context(proxy(url))


def together(kind: str, where: str, processes: int, chosen: argparse.Namespace) -> list[float]:
    """Rates of so many processes at once, added up; the last number is of errors."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.storage", "--one", kind, where]
    command += ["--seconds", str(chosen.seconds), "--points", str(chosen.points)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True) for _ in range(processes)
    ]  # fmt: skip
    rates = []
    for process in started:  # each has opened what it needs
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        out, _ = process.communicate()
        rates.append(json.loads(out.splitlines()[-1]) if process.returncode == 0 else [0.0, 0.0, 0.0, 1.0])
    return [sum(column) for column in zip(*rates, strict=True)]


def print_one(kind: str, where: str, seconds: float, points: int) -> None:
    """Be one of the processes: say that it is ready, wait for the word, print the rates."""
    rates = of_study(where, seconds, points) if kind == "study" else of_mlflow(where, seconds)
    print(json.dumps(list(rates)))


def of_study(where: str, seconds: float, trials: int) -> tuple[float, float, float, float]:
    """(trials, reports, signs of life: per second; errors)."""
    from cnnforge.spec import SweepSpec
    from cnnforge.sweep.space import Space
    from cnnforge.sweep.study import Study

    where, _, name = where.rpartition(" ")
    spec = SweepSpec.model_validate({"space": {"seed": {"low": 0, "high": trials}}, "pruner": "median"})
    study = Study(where, f"drivers {name}", spec, Space.of(spec), "benchmark", EPOCHS)
    points = [(number, {"seed": number}) for number in range(1, trials + 1)]
    if study.made:
        study.enqueue(points, 0)
    study.wait_until_ready(points, 0)
    wait_for_the_word()
    claimed = errors = 0
    reporting = 0.0
    began = monotonic()
    while monotonic() - began < seconds:
        try:
            if (trial := study.claim("me")) is None:
                break
            before = monotonic()
            for epoch in range(1, EPOCHS + 1):
                study.report(trial, epoch, 1.0 / epoch)
            reporting += monotonic() - before
            study.tell(trial, {"state": "finished", "result": {"val_loss": 1.0}}, [1.0])
            claimed += 1
        except Exception:  # what a storage that is not made for several brings forth, is counted
            errors += 1
    passed = monotonic() - began
    began, signs = monotonic(), 0
    while monotonic() - began < seconds / 2:
        study.sign(f"driver {id(study)}", monotonic())
        signs += 1
    rates = claimed / passed, EPOCHS * claimed / max(reporting, 1e-9), signs / (monotonic() - began)
    return *rates, float(errors)


def of_mlflow(where: str, seconds: float) -> tuple[float, float]:
    """(batches of metrics per second; errors)."""
    import time

    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from cnnforge.tracking.database import prepared

    with prepared(where):
        client = MlflowClient(where)
        run = client.create_run("0").info.run_id
    wait_for_the_word()
    batches = errors = 0
    began = monotonic()
    while monotonic() - began < seconds:
        now = int(time.time() * 1000)
        try:
            client.log_batch(run, [Metric(f"m{i}", 1.0, now, batches) for i in range(METRICS)])
            batches += 1
        except Exception:
            errors += 1
    return batches / (monotonic() - began), float(errors)


def wait_for_the_word() -> None:
    """All processes begin at once."""
    print("ready", flush=True)
    sys.stdin.readline()


def gradient_bytes(net: str) -> int:
    """Of one step, float32."""
    from cnnforge.report.check import check

    return 4 * check(ROOT / "configs" / "model" / f"{net}.yaml").trainable_params


def ring(size: int, processes: int, gbit: float) -> float:
    """Seconds of one sum over processes, by bandwidth alone."""
    return 2 * (processes - 1) / processes * size * 8 / (gbit * 1e9)


if __name__ == "__main__":
    options.run(main)
