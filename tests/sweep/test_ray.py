"""Trials on a Ray cluster: a real one of two nodes on this host, with one core each."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnforge.errors import ConfigError
from cnnforge.spec.sweep import Ray
from cnnforge.sweep import ray as ray_room
from cnnforge.sweep.pool import pool_of
from cnnforge.sweep.ray import Actors, Host
from tests.sweep.commands import QUICK, ROOT, begin, finished, kept
from tests.waiting import closed_port, wait_for

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
WILD = "3.0e+38"
LONG = [*QUICK, "trainer.max_steps=null", "trainer.epochs=200", "trainer.checkpoint_every=2"]
#: Ends with its input; a line of it takes the second node away as a power cut would.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("gone", flush=True)
cluster.shutdown()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cluster():
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        lines = (line.strip() for line in process.stdout)
        process.address = next(line for line in lines if line.count(":") == 1 and line[-1].isdigit())
        yield process
        process.stdin.close()


def numbers(name):
    timings = {"wall_seconds", "peak_memory_bytes", "samples_per_second", "first_step_seconds", "data_wait", "seconds"}
    return {
        trial["number"]: (trial["state"], {k: v for k, v in trial.get("result", {}).items() if k not in timings})
        for trial in kept(f"runs/{name}")["trials"]
    }


def on(cluster, *words):
    return ["sweep", *words, "sweep.executor=ray", f"sweep.ray.address={cluster.address}"]


@needs_ray
@pytest.mark.slow
def test_a_sweep_on_two_workers_is_that_of_this_host(cluster):
    words = [*QUICK, "trainer.max_steps=6", f"optimizer.lr=0.01,0.02,{WILD}", "seed=1,2", "sweep.parallel=2"]
    finished(begin(*on(cluster, *words), "run.name=far"), begin("sweep", *words, "run.name=near"))
    assert numbers("far") == numbers("near")
    assert sorted(state for state, _ in numbers("far").values()) == ["failed"] * 2 + ["finished"] * 4
    assert list(Path("runs/far").glob("workers-*.log"))


@needs_ray
@pytest.mark.slow
def test_what_is_worse_is_given_up_between_epochs(cluster):
    words = [*QUICK, "trainer.epochs=4", "trainer.max_steps=null", "optimizer=sgd"]
    words += ["optimizer.lr=0.05,0.04,1e-9,0.06", "sweep.pruner={type: median, n_startup_trials: 2}", "run.name=pruned"]
    finished(begin(*on(cluster, *words)))
    state, result = numbers("pruned")[3]
    assert (state, result["status"], result["epochs"]) == ("pruned", "pruned", 1)


@needs_ray
@pytest.mark.slow
def test_ctrl_c_ends_trials_with_checkpoints_and_resume_goes_on(cluster):
    process = begin(*on(cluster, *LONG, "seed=1,2,3", "sweep.parallel=3", "run.name=stopped"))
    # The third has no place, as there are two cores.
    wait_for(lambda: len(list(Path("runs").glob("stopped/trials/*/checkpoints/last"))) == 2, 120)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 130, out
    ended = [json.loads(file.read_text())["status"] for file in Path("runs/stopped/trials").glob("*/result.json")]
    assert ended == ["interrupted"] * 2
    assert {state for state, _ in numbers("stopped").values()} == {"waiting"}
    finished(begin("sweep", "resume=stopped", "sweep.parallel=2", "trainer.epochs=200"))
    assert {(state, result["epochs"]) for state, result in numbers("stopped").values()} == {("finished", 200)}


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_cut_off_is_a_killed_trial_which_resume_ends(cluster):
    process = begin(*on(cluster, *LONG, "seed=1,2", "sweep.parallel=2", "run.name=cut"))
    wait_for(lambda: len(list(Path("runs").glob("cut/trials/*/checkpoints/last"))) == 2, 120)
    cluster.stdin.write("cut\n")
    cluster.stdin.flush()
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert sorted(state for state, _ in numbers("cut").values()) == ["finished", "killed"]
    assert "its process died" in out
    assert "its Ray actor: The actor" in json.dumps(kept("runs/cut"))
    finished(begin("sweep", "resume=cut", "sweep.parallel=1"))
    assert {(state, result["epochs"]) for state, result in numbers("cut").values()} == {("finished", 200)}


@needs_ray
def test_no_cluster_there():
    process = begin("sweep", *QUICK, "seed=1,2", "sweep.executor=ray", f"sweep.ray.address=127.0.0.1:{closed_port()}")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert "there is no Ray cluster at '127.0.0.1:" in out
    assert "fix:   ray start --head, HOST:PORT of one that runs, or sweep.ray.address=local" in out


def test_ray_is_not_installed(monkeypatch, tmp_path):
    from cnnforge.spec import SweepSpec

    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ConfigError, match="executor: ray needs Ray") as caught,
        pool_of(SweepSpec(executor="ray"), tmp_path),
    ):
        pass
    assert caught.value.fix == "pip install 'cnnforge[ray]', or sweep.executor=local"


def unfit(folder, ours):
    pool = Actors(1, Ray(), folder)
    host = Host(str(folder), ours)
    pool._heard.extend((None, said) for said in host.next())
    with pytest.raises(ConfigError) as caught:
        pool.next(0)
    return caught.value


def test_a_worker_that_does_not_share_the_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(ray_room, "SHOWING", 0.0)
    error = unfit(tmp_path / "elsewhere", "0")
    assert error.what.endswith(f" does not see {tmp_path / 'elsewhere'}")
    assert error.fix == "run.dir on a disk that all share, under one path"


def test_a_worker_that_has_another_version(tmp_path):
    error = unfit(tmp_path, "0.0.1")
    assert " has cnnforge " in error.what
    assert (error.why, error.fix) == ("the driver has 0.0.1", "the same version on every host")


def test_a_host_trains_and_says_so(tmp_path):
    """Without Ray: what an actor does is a process as on this host."""
    from importlib.metadata import version

    finished(begin("sweep", *QUICK, "seed=1,2", "run.name=near"))
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.yaml").write_bytes(Path("runs/near/trials/1/config.yaml").read_bytes())
    host = Host(str(tmp_path), version("cnnforge"))
    host.order([str(again)])
    said, until = [], time.monotonic() + 60
    while not any(one["kind"] == "done" for one in said) and time.monotonic() < until:
        said += host.next()
        if said and said[-1]["kind"] == "epoch":
            host.tell({"prune": False})
    host._process.end()
    host._log.close()
    result = kept("runs/near")["trials"][0]["result"]
    assert said[-1]["results"][0]["val_loss"] == result["val_loss"]
