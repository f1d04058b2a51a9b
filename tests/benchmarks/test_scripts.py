"""Every script says what it does, and runs without PyTorch."""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import machine, mpi, nets, options, timing
from benchmarks.alone import in_a_process
from benchmarks.engines import Ours
from benchmarks.recipe import draws, recipe
from benchmarks.table import Table
from cnnforge.backends import capabilities_of
from cnnforge.errors import BackendError, ConfigError
from cnnforge.lower import train_graph
from cnnforge.plan import make_plan
from cnnforge.plan.forecast import training_nodes

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "machine",
    "train_step",
    "inference",
    "cold_start",
    "memory",
    "scaling",
    "profile",
    "alone",
    "forecast",
    "batches",
    "mpi",
    "storage",
    "gpu",
    "serve",
)
PLAIN = ("--quick", "--backend", "numpy", "--threads", "1")


@pytest.fixture
def _no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("torch_engines", "torch_net"):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, capsys):
    with pytest.raises(SystemExit) as end:
        import_module(f"benchmarks.{script}").main(["--help"])
    assert end.value.code == 0
    assert f"python -m benchmarks.{script}" in capsys.readouterr().out


def test_a_script_runs_as_a_file_too():
    """From anywhere; and ``profile.py`` beside the others is not taken for Python's own module of that name."""
    command = [sys.executable, ROOT / "benchmarks" / "profile.py", "--help"]
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd="/", env=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("_no_torch")
def test_a_training_step(capsys):
    words = ("--net", "lenet", str(nets.MODELS / "cifar_net.yaml"), "--batch", "2", "--steps", "1", "--markdown")
    import_module("benchmarks.train_step").main([*PLAIN, *words])
    head, _, columns, _, *rows, _, note = capsys.readouterr().out.splitlines()
    assert head.startswith("training step, float32, 1 threads")
    titles = ["net", "batch", "ours", "ratio", "at least", "aim", "GFLOP/s", "of peak", "of bandwidth"]
    assert columns == f"| {' | '.join(titles)} |"
    assert [row.split()[1:4:2] for row in rows] == [["lenet", "2"], ["cifar_net", "2"]]
    assert rows[0].split(" | ")[3:6] == ["-", "3.00", "4.00"]
    assert note.startswith("PyTorch is not installed")


@pytest.mark.usefixtures("_no_torch")
def test_where_the_time_goes(capsys):
    import_module("benchmarks.profile").main(["lenet", "--batch", "2", "--top", "3", *PLAIN])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "lenet, batch 2, backend numpy, 1 threads; the fastest of 2 steps"
    assert out[2].split() == ["op", "layer", "reads", "writes", "ms", "share", "GMAC/s"]
    assert len(out) == 7
    assert re.fullmatch(r"and \d+ more calls of [\d.]+ ms together, \d+%", out[-1])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("net", ["lenet", "vgg_style", "resnet20", "mobilenet_v2_cifar", "cifar_net"])
def test_the_calls_of_a_step_do_the_work_that_is_counted(net, backend):
    """Whatever the backend makes one kernel of."""
    spec = nets.spec(net)
    plan = make_plan(train_graph(spec, 64, "float32", 0, nets.optimizer(net)), capabilities_of(backend))
    macs = import_module("benchmarks.profile").macs
    assert 2 * sum(map(macs, training_nodes(plan))) == nets.training_flops(spec, 64)


def test_traffic():
    ours = Ours(nets.spec("lenet"), nets.ADAM, 2, "numpy", 1)
    parameters = sum(array.nbytes for array in ours.weights.params.values())
    assert ours.traffic() > 8 * parameters  # the update alone reads four of their size and writes three


@pytest.mark.usefixtures("_no_torch")
def test_scaling(capsys):
    scaling = import_module("benchmarks.scaling")
    scaling.main(["--table", "batch", "--rounds", "1", *PLAIN])
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line and line[0].isdigit()] == ["1", "8"]
    chosen = argparse.Namespace(threads=1, quick=False)
    counts = [[str(label) for label, *_ in scaling.points(which, chosen)] for which in scaling.TABLES]
    assert counts[:3] == [["1", "8", "32", "128", "512"], ["8", "16", "32", "64", "128"], ["8", "20", "32", "56"]]
    assert counts[3][0] == "lenet, 1"
    for depth, spec, *_ in scaling.points("depth", chosen):
        assert len([row for row in spec.table if row.macs]) == depth


@pytest.mark.skipif(bool(mpi.unavailable()), reason=mpi.unavailable() or "it is there")
def test_processes_that_share_a_step(capsys):
    mpi.main(["--net", "lenet", "--batch", "4", "--rounds", "1", *PLAIN])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("lenet: training step, float32, 1 threads in each process")
    assert [row.split()[:3] for row in rows] == [["-", "1", "4"], ["weak", "2", "4"], ["strong", "2", "2"]]


def test_without_mpi_there_is_nothing_to_measure(monkeypatch, capsys):
    monkeypatch.setattr(mpi, "mpiexec", lambda: None)
    mpi.main(["--quick"])
    assert "nothing to measure" in capsys.readouterr().out


def test_a_process_of_its_own():
    found = in_a_process("ours", "lenet", 2, 1, "--backend", "numpy")
    assert 0 < found["imported_bytes"] <= found["peak_bytes"]
    assert 0 < found["first_step_seconds"] < 60


def test_a_mistake_is_said_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as end:
        options.run(lambda: import_module("benchmarks.train_step").main([*PLAIN, "--net", "lenett"]))
    assert end.value.code == 2
    assert "did you mean 'lenet'?" in capsys.readouterr().err
    with pytest.raises(BackendError):
        import_module("benchmarks.memory").main(["--backend", "abacus"])


@pytest.mark.parametrize("script", ["train_step", "profile"])
def test_numbers_are_above_0(script, capsys):
    with pytest.raises(SystemExit) as end:
        import_module(f"benchmarks.{script}").main(["--batch", "0"])
    assert end.value.code == 2
    assert "must be 1 or more, not 0" in capsys.readouterr().err


def test_the_nets():
    assert {row.net: sum(r.param_count for r in nets.spec(row.net).table) for row in nets.TRAINING} == {
        "lenet": 62_006,
        "vgg_style": 2_197_706,
        "resnet20": 269_722,
        "mobilenet_v2_cifar": 2_236_682,
        "simple_convnet": 44_950,
        "cifar_net": 1_834_896,
    }
    assert not any(draws(nets.spec(row.net)) for row in nets.TRAINING)
    assert draws(nets.spec("mobilenet_v2"))


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ({"norm": {"type": "layer_norm"}, "output": {"type": "fc", "units": 3, "activation": "softmax"}}, "layer norm"),
        ({"output": {"type": "fc", "units": 3}}, "loss mse"),
        (
            {
                "pool": {"type": "pool", "kernel": 2, "stride": 1, "padding": "same", "mode": "average"},
                "output": {"type": "fc", "units": 3, "activation": "softmax"},
            },
            "layer pool, whose padding differs on opposite sides",
        ),
    ],
)
def test_what_pytorch_would_not_run_alike_is_refused(layers, what):
    spec = nets.spec({"name": "m", "input": [4, 4, 2], "layers": layers})
    with pytest.raises(ConfigError, match=f"no PyTorch counterpart of {what}"):
        recipe(spec, nets.ADAM)


# Measuring


def test_the_machines_loops_compute_what_they_say():
    """Every chain ends at the fixed point of x = x/2 + 1; the triad and the clock's chain against NumPy and Python."""
    peak = machine._function("peak", ctypes.c_float, ctypes.c_int64)
    assert peak(100) == 2 * machine._chains()
    a, b, c = np.zeros(64, np.float32), np.arange(64, dtype=np.float32), np.full(64, 4, np.float32)
    triad = machine._function("triad", None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    triad(a.ctypes.data, b.ctypes.data, c.ctypes.data, 48)
    np.testing.assert_array_equal(a, np.where(np.arange(64) < 48, b + 2, 0))
    value = 3
    for _ in range(machine.CHAIN // 2 * 5):
        value = (value + 3) ^ 5
    assert machine._function("chain", ctypes.c_int64, *[ctypes.c_int64] * 3)(5, 3, 5) == value


def test_the_machine(capsys):
    machine.main(["--threads", "1"])
    out = capsys.readouterr().out.splitlines()
    rate, per_cycle, times, wide, gigabytes = out[1].split()[1:]
    assert (times, int(wide)) == ("x", machine.lanes())
    assert float(rate) > 1
    assert float(per_cycle) > 0.1
    assert float(gigabytes) > 0.1


def test_engines_take_turns():
    seen = []
    engines = {name: (lambda name=name: seen.append(name)) for name in "ab"}
    times = timing.interleaved(engines, rounds=2, steps=2)
    assert "".join(seen) == "aaabbb" * 2  # one step that is not timed, then two
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_ratios():
    ratio = timing.ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)
    assert str(ratio) == "2.00 (1.00..3.00)"
    times = {"ours": [1.0], "eager": [3.0], "bfloat16": [1.0], "compile": [2.0]}
    assert timing.best(times, ("eager", "channels_last", "compile")) == "compile"
    assert timing.best({"ours": [1.0]}, ("eager",)) is None


def test_tables(capsys):
    table = Table({"net": 6, "ms": 6, "ratio": 4})
    table.row("lenet", 1234.5, None)
    table.row("b", 0.123, 12.34)
    assert capsys.readouterr().out == "net         ms  ratio\nlenet     1234      -\nb         0.12   12.3\n"
    table = Table({"net": 6, "ms": 6}, markdown=True)
    table.row("lenet", 3.0)
    table.notes("fast")
    assert capsys.readouterr().out == "\n| net | ms |\n|---|---|\n| lenet | 3.00 |\n\nfast\n"


@pytest.mark.slow
def test_storages(capsys):
    """Trials are claimed and told on each kind that is there; what is sent is a matter of the nets' sizes."""
    import_module("benchmarks.storage").main(["--quick", "--backend", "numpy", "--drivers", "2", "--gbit", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:16].strip(): line[16:].split() for line in lines}
    for name in ("journal file", "SQLite"):
        drivers, trials, *_, errors = rows[name]
        assert (drivers, errors) == ("2", "0.00")
        assert float(trials) > 0
    assert float(rows["MLflow, SQLite"][1]) > 0
    size, *times = rows["lenet5"]
    assert float(size) == pytest.approx(61_706 * 4 / 1e6, rel=0.02)
    assert float(times[0]) == pytest.approx(61_706 * 32 / 1e9 * 1e3, rel=0.01)


@pytest.mark.slow
def test_the_service(capsys):
    """Its answers are right, whatever the number of clients."""
    import_module("benchmarks.serve").main(["--quick", "--clients", "1", "3"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("lenet")]
    assert [(row[2], row[-1]) for row in rows] == [("1", "0"), ("3", "0")]
    assert all(float(row[3]) > 0 for row in rows)
