"""`mpiexec -n N cnnforge train` as a user runs it: real processes, real signals, a real kill -9.

What several ranks compute is tested without MPI, in ``test_ranks``.
"""

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cnnforge.cli.console import PlainConsole
from cnnforge.config import compose, validate
from cnnforge.errors import BackendError, ConfigError
from cnnforge.train import distributed
from cnnforge.train.distributed import job, share_of_cores
from cnnforge.train.launcher import Launch
from cnnforge.train.ranks import ALONE
from cnnforge.train.run import resume, run
from tests.train.test_command import environment

BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
WHY_NOT = (
    "mpi4py is not installed" if importlib.util.find_spec("mpi4py") is None
    else "there is no mpiexec" if MPIEXEC is None else ""
)  # fmt: skip
with_mpi = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it is there")

NET = """
name: net
input: [8, 8, 1]
layers:
  conv: {type: conv, filters: 6, kernel: 3, activation: relu}
  pool: {type: pool, kernel: 2}
  drop: {type: dropout, rate: 0.2}
  fc: {type: fc, units: 12, activation: tanh}
  output: {type: fc, units: 10, activation: softmax}
"""
NORMED = NET.replace("name: net", "name: normed").replace(
    "kernel: 3, activation: relu}", "kernel: 3, bias: false}\n  norm: {type: batch_norm, activation: relu}"
)
#: 183 samples in batches of 25: shards of 13 and 12, at the end of 4 and 4.
WORDS = [
    "data=synthetic", "data.samples=203", "data.test_samples=31", "data.noise=1", "tracking=none",
    "trainer.batch_size=25", "trainer.precision=float64", "trainer.backend=numpy", "augment=flip_crop",
    "augment.crop.padding=1", "trainer.max_steps=50", "trainer.log_every=5", "optimizer=adamw",
]  # fmt: skip
LONG = ["trainer.max_steps=4000", "trainer.epochs=1000", "trainer.checkpoint_every=20"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "configs" / "model"
    models.mkdir(parents=True)
    for text in (NET, NORMED):
        (models / f"{text.split()[1]}.yaml").write_text(text)


def spec(*words):
    return validate(compose([*WORDS, *words], config_dir=Path("configs")), match_data=False)


def alone(*words):
    return run(spec(*words), PlainConsole(io.StringIO()))


def started(size, *words, program=("-m", "cnnforge"), others=None, **variables):
    """So many processes of the command. ``others``: what all but the first run instead."""
    assert MPIEXEC is not None
    line = [MPIEXEC, "-n", str(1 if others else size), sys.executable, *program, *words]
    if others:
        line += [":", "-n", str(size - 1), sys.executable, "-c", others, *words]
    return subprocess.Popen(
        line, env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def ended(process, within=60):
    """(exit code, stdout, stderr)"""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def ranks_of(process):
    """The process ids of a job's ranks, the first rank first."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes()
            group = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        rank = next((v for v in variables if v.startswith(b"PMI_RANK=")), None)
        if rank and b"cnnforge" in line and int(group) in _descendants(process.pid):
            found[int(rank.split(b"=")[1])] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def _descendants(pid):
    """Of a launcher: itself and the helpers that start the ranks."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {pid, *map(int, listed.split())}


def until(path, process, seconds=40):
    """Wait for a file to appear."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def weights(folder):
    return load_file(folder / "checkpoints" / "last" / "model.safetensors")


def assert_same(folder, other, close=1e-10):
    """Weights, and what the results say of the training."""
    mine, theirs = weights(folder), weights(other)
    for name, array in mine.items():
        np.testing.assert_allclose(theirs[name], array, rtol=close, atol=close, err_msg=name)
    results = [json.loads((f / "result.json").read_text()) for f in (folder, other)]
    for name in results[0]:
        if name.endswith(("loss", "accuracy")) or name in ("steps", "epochs"):
            assert results[1][name] == pytest.approx(results[0][name], rel=100 * close), name


@with_mpi
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (2, ["model=net"]),
        (2, ["model=normed", "trainer.sync_batch_norm=true"]),
        # The last batch of an epoch has one sample: two processes have none.
        (3, ["model=normed", "trainer.sync_batch_norm=true", "trainer.batch_size=14", "trainer.max_steps=20"]),
    ],
)
def test_several_processes_train_what_one_does(size, words):
    whole, _ = alone(*words, "run.name=whole")
    code, out, err = ended(started(size, "train", *WORDS, *words, "run.name=shared"))
    assert code == 0, err
    assert err == ""
    assert out.count("test accuracy") == 1
    assert f"{size} processes, each with its part of every batch" in out
    assert sorted(os.listdir("runs")) == ["latest", "shared", "whole"]
    assert_same(whole, Path("runs/shared"))
    assert json.loads(Path("runs/shared/plan.json").read_text())["ranks"] == size


@with_mpi
def test_a_killed_rank_ends_the_job_and_another_number_of_processes_goes_on():
    words = [*LONG, "model=normed", "trainer.sync_batch_norm=true", "trainer.epochs=40", "trainer.max_steps=300"]
    whole, _ = alone(*words, "run.name=whole")
    folder = Path("runs/cut")
    process = started(2, "train", *WORDS, *words, "run.name=cut")
    until(folder / "checkpoints" / "step-20", process)
    began = time.monotonic()
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    code, _, err = ended(process)
    assert time.monotonic() - began < 20
    assert code != 0
    assert "Killed (signal 9)" in err + _
    reached = json.loads((folder / "checkpoints" / "last" / "state.json").read_text())["step"]
    assert 20 <= reached < 300
    process = started(3, "resume", "cut")
    until(folder / "checkpoints" / f"step-{reached + 40}", process)
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert code == 143, err
    assert f"resumed at step {reached}" in out
    assert err.count("terminated") == 1
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    resume(folder, (), said := PlainConsole(io.StringIO()))
    assert "otherwise" not in said._stream.getvalue(), "other rounding is expected of another number of processes"
    assert_same(whole, folder, 1e-8)


@with_mpi
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_one_rank_ends_all_with_a_checkpoint(name):
    process = started(2, "train", *WORDS, *LONG, "model=net", "run.name=a")
    until(Path("runs/a/checkpoints/step-20"), process)
    os.kill(ranks_of(process)[1], getattr(signal, name))
    code, _, err = ended(process)
    assert code == {"SIGINT": 130, "SIGTERM": 143}[name]
    assert err.count("another process of the job was asked to stop") == 1
    assert "cnnforge resume runs/a" in err
    state = json.loads(Path("runs/a/checkpoints/last/state.json").read_text())
    assert state["step"] == json.loads(Path("runs/a/result.json").read_text())["steps"]


@with_mpi
def test_a_mistake_is_said_once():
    code, out, err = ended(started(2, "train", "model=net", "optimizer.lrr=1"))
    assert (code, out) == (2, "")
    assert err.count("unknown key 'lrr'") == 1
    code, out, err = ended(
        started(2, "train", "model=net", "data=npz", "data.path=none.npz", "data.classes=10", "tracking=none")
    )
    assert code == 3
    assert err.count("none.npz") >= 1
    assert err.count("where:") == 1


@with_mpi
def test_divergence_ends_all():
    words = ["model=net", "optimizer=sgd", "optimizer.lr=1e200", "trainer.stats_every=null"]
    code, _, err = ended(started(2, "train", *WORDS, *words))
    assert code == 4, err
    assert err.count("training diverged") == 1


ALONE_FAILS = """
import sys
from cnnforge.train import follow
from cnnforge.cli.main import main
def broken(*what):
    raise OSError("the disk is gone")
follow.load = broken
sys.exit(main(sys.argv[1:]))
"""


@with_mpi
def test_what_happens_to_one_rank_alone_ends_the_job_in_its_words():
    code, _, err = ended(started(2, "train", *WORDS, "model=net", others=ALONE_FAILS), 30)
    assert code == 1
    assert "process 1 of 2 failed, which ends the others" in err
    assert "OSError: the disk is gone" in err


FULL = """
import sys
from cnnforge.errors import CheckpointError
from cnnforge.train.checkpoint import Checkpoints
from cnnforge.cli.main import main
def full(*what):
    raise CheckpointError("cannot write step-8: No space left on device")
Checkpoints.save = full
sys.exit(main(sys.argv[1:]))
"""
COMMAND = "import sys; from cnnforge.cli.main import main; sys.exit(main(sys.argv[1:]))"


@with_mpi
def test_what_the_first_rank_alone_cannot_do_ends_the_job():
    process = started(2, "train", *WORDS, "model=net", "run.name=a", program=("-c", FULL), others=COMMAND)
    code, _, err = ended(process, 30)
    assert code == 3, err
    assert "process 0 of 2 failed" in err
    assert err.count("cannot write step-8: No space left on device") == 1
    assert json.loads(Path("runs/a/result.json").read_text())["status"] == "failed"


STUCK = """
import sys, time
from cnnforge.train import follow
from cnnforge.cli.main import main
def step(self, progress, metrics):
    time.sleep(progress.step > 5 and 1000)
follow.Follower.step = step
sys.exit(main(sys.argv[1:]))
"""


@with_mpi
def test_a_stuck_rank_is_not_waited_for_for_ever():
    process = started(2, "train", *WORDS, *LONG, "model=net", others=STUCK, CNNFORGE_MPI_TIMEOUT="2")
    code, _, err = ended(process, 30)
    assert code == 1
    assert "process 0 of 2 has waited 2 s for the others" in err
    assert "CNNFORGE_MPI_TIMEOUT=SECONDS waits longer" in err


@with_mpi
def test_threads_are_shared_out():
    program = (
        "import sys\nfrom cnnforge.train.distributed import job\n"
        "with job() as ranks: sys.stdout.write(f'{ranks.threads(None)} {ranks.threads(7)}\\n')"
    )
    status, out, err = ended(started(2, program=("-c", program)))
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"{max(1, len(os.sched_getaffinity(0)) // 2)} 7"] * 2


@with_mpi
def test_one_process_of_a_launcher_is_no_job():
    code, out, _ = ended(started(1, "train", *WORDS, "model=net", "trainer.max_steps=2"))
    assert code == 0
    assert "processes" not in out


@with_mpi
@pytest.mark.slow
def test_compiled_kernels():
    words = ["model=normed", "trainer.sync_batch_norm=true", "trainer.backend=numba", "trainer.precision=float32"]
    whole, _ = alone(*words, "run.name=whole")
    code, _, err = ended(started(2, "train", *WORDS, *words, "run.name=shared"), 120)
    assert code == 0, err
    assert_same(whole, Path("runs/shared"), 1e-4)


# Without MPI.


def test_a_plain_training_loads_nothing_of_mpi():
    program = (
        "import sys\nfrom cnnforge.cli.main import main\n"
        f"code = main(['train', *{[*WORDS, 'model=net', 'trainer.max_steps=2']!r}])\n"
        "assert 'mpi4py' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def under_a_launcher(monkeypatch, rank):
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "2")


def test_without_mpi4py_a_launcher_is_a_mistake(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    under_a_launcher(monkeypatch, 0)
    with pytest.raises(BackendError) as error:
        job()
    assert str(error.value) == (
        "mpi4py is not installed\n"
        "  where: an MPI launcher started 2 processes of this command\n"
        "  why:   they train one net together through it\n"
        "  fix:   pip install 'cnnforge[mpi]', or start the command without mpiexec"
    )
    under_a_launcher(monkeypatch, 1)
    with pytest.raises(SystemExit) as end:
        job()
    assert end.value.code == 2


def test_a_launcher_of_another_mpi_is_named():
    said = str(distributed._another_mpi(Launch(0, 4), 1, "MPICH Version: 5\nmore"))
    assert "the launcher started 4 processes, and each sees 1" in said
    assert "mpi4py talks to another MPI than the launcher: MPICH Version: 5" in said


def test_a_time_is_a_number(monkeypatch):
    under_a_launcher(monkeypatch, 0)
    monkeypatch.setenv("CNNFORGE_MPI_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match="CNNFORGE_MPI_TIMEOUT=soon is no time"):
        job()


def test_without_a_launcher_there_is_no_job(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PMI", "OMPI", "MV2")):
            monkeypatch.delenv(name)
    assert job() is ALONE


@pytest.mark.parametrize(
    ("mine", "every", "threads"),
    [
        ({0, 1, 2, 3}, [{0, 1, 2, 3}] * 2, 2),
        ({0, 1, 2, 3}, [{0, 1, 2, 3}] * 8, 1),
        ({0, 1, 2}, [{0, 1, 2}] * 3, 1),
        ({0, 1}, [{0, 1}, {2, 3}], 2),
        ({5}, [{5}], 1),
    ],
)
def test_a_core_is_of_those_that_may_use_it(mine, every, threads):
    assert share_of_cores(mine, every) == threads
