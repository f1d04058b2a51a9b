"""Studies that several drivers share, by PostgreSQL, Optuna's gRPC proxy or a journal file; storages that fail."""

import json
import stat
import sys
from pathlib import Path

import pytest

from benchmarks.servers import PASSWORD, free_port, no_postgres, postgres, proxy
from cnnforge.errors import ConfigError
from cnnforge.sweep import storage
from cnnforge.sweep.storage import close_storage, lost, open_optuna, open_storage
from tests.sweep.commands import QUICK, begin, finished, kept

TRIALS = 12


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def database():
    if why := no_postgres():
        pytest.skip(why)
    with postgres(durable=False) as url:
        yield url


@pytest.fixture(scope="module")
def served(database):
    pytest.importorskip("grpc", reason="grpcio is not installed: no proxy can be asked")
    with proxy(database) as url:
        yield url


def states(url, name):
    """Optuna's state of each trial of a study."""
    optuna = open_optuna()
    with storage.quiet():
        opened = open_storage(optuna, url)
        found = [trial.state.name for trial in optuna.load_study(study_name=name, storage=opened).get_trials()]
    close_storage(opened)
    return found


def share(url, name, drivers=4):
    """So many drivers begin the same sweep at the same moment; each trial must be run by one of them alone."""
    words = ["sweep", *QUICK, f"seed=range(0,{TRIALS})", f"sweep.storage={url}", f"run.name={name}"]
    said = finished(*[begin(*words) for _ in range(drivers)])
    assert states(url, name) == ["COMPLETE"] * TRIALS
    ended = [
        line.split()[1] for out in said for line in out.splitlines() if line.startswith("trial ") and "finished" in line
    ]
    assert sorted(map(int, ended)) == list(range(1, TRIALS + 1))
    done = sorted(int(file.parent.name) for file in Path(f"runs/{name}").glob("trials/*/result.json"))
    assert done == list(range(1, TRIALS + 1))
    assert [trial["state"] for trial in kept(f"runs/{name}")["trials"]] == ["finished"] * TRIALS
    assert not list(Path(f"runs/{name}").glob(".driver-*"))
    return said


def test_four_drivers_that_begin_at_once_share_an_empty_postgresql(database):
    said = share(database, "together")
    assert not any(PASSWORD in out for out in said)
    for file in Path("runs").rglob("*"):
        if file.is_file() and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            assert PASSWORD.encode() not in file.read_bytes(), file
    assert stat.S_IMODE(Path("runs/together/begun.json").stat().st_mode) == 0o600


@pytest.mark.slow
def test_four_drivers_share_a_study_through_the_proxy(served):
    share(served, "proxied")


def test_three_drivers_share_a_journal_file():
    share("study.journal", "shared", drivers=3)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "{type: cma_es, n_startup_trials: 2}"])
def test_drivers_draw_as_many_points_as_the_budget_has(database, sampler):
    name = sampler.strip("{").partition(",")[0].rpartition(" ")[2]
    words = [
        "sweep", *QUICK, "optimizer.lr=interval(1e-3,1e-1)", "optimizer.weight_decay=interval(0.0,0.1)",
        f"sweep.sampler={sampler}", "sweep.budget.trials=6", f"sweep.storage={database}", f"run.name={name}",
    ]  # fmt: skip
    finished(*[begin(*words) for _ in range(2)])
    assert states(database, name).count("COMPLETE") == 6
    trials = kept(f"runs/{name}")["trials"]
    assert len({tuple(trial["values"].values()) for trial in trials if trial["state"] == "finished"}) == 6


@pytest.mark.slow
def test_a_folder_of_another_sweep_is_not_joined():
    words = ["sweep", *QUICK, "seed=1,2", "run.name=taken"]
    finished(begin(*words))
    process = begin(*words, "sweep.storage=other.journal")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "taken is another sweep's or run's folder" in out
    assert "fix:   another run.name or run.dir" in out
    finished(begin(*words[:-1], "sweep.storage=other.journal", "run.name=mine"))
    Path("other.journal").unlink()
    process = begin(*words[:-1], "sweep.storage=other.journal", "run.name=mine")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the sweep of that name in sweep.storage is not the one that made it" in out


def refused(where):
    with pytest.raises(ConfigError) as caught:
        open_storage(open_optuna(), where)
    assert PASSWORD not in str(caught.value)
    return caught.value


def test_a_database_that_is_not_there():
    pytest.importorskip("psycopg")
    error = refused(f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:{free_port()}/sweeps")
    assert error.what == "the sweep's storage cannot be opened"
    assert "connection refused" in error.why.lower() or "connection failed" in error.why.lower()
    assert error.fix.startswith("postgresql+psycopg://USER@HOST/DATABASE, grpc://HOST:PORT or the path of a file")


def test_a_proxy_that_is_not_there(monkeypatch):
    pytest.importorskip("grpc")
    monkeypatch.setattr(storage, "ANSWERING", 0.3)
    error = refused(f"grpc://127.0.0.1:{free_port()}")
    assert (error.what, error.why) == ("the sweep's storage cannot be opened", "GRPC connection timeout")
    assert refused("grpc://nonsense").what == "the sweep's storage cannot be opened"


@pytest.mark.parametrize(("module", "where", "fix"), [
    ("psycopg", "postgresql+psycopg://me@host/sweeps", "pip install 'cnnforge[postgres]'"),
    ("grpc", "grpc://host:13000", "pip install 'cnnforge[grpc]'"),
    ("pymysql", "mysql+pymysql://me@host/sweeps", "install SQLAlchemy's driver for it"),
])  # fmt: skip
def test_a_package_that_is_not_there(monkeypatch, module, where, fix):
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(where)
    assert error.what == f"the sweep's storage needs a package for {where.partition('://')[0]}://"
    assert error.fix.startswith(fix)


def test_a_storage_that_goes_away_is_said_without_its_password():
    where = f"postgresql+psycopg://me:{PASSWORD}@host/sweeps"
    error = lost(where, RuntimeError(f"no route to {where}\nmore"))
    assert (error.what, error.where) == (
        "the sweep's storage does not answer any more",
        "postgresql+psycopg://***@host/sweeps",
    )
    assert error.why == "no route to postgresql+psycopg://***@host/sweeps"
    assert error.fix == "cnnforge sweep resume=SWEEP goes on once it is there again"


def test_a_server_that_goes_away_ends_the_driver_and_leaves_checkpoints():
    if why := no_postgres():
        pytest.skip(why)
    words = ["sweep", *QUICK, "trainer.max_steps=null", "trainer.epochs=40", "seed=1,2", "run.name=cut"]
    with postgres(durable=False) as url:
        process = begin(*words, f"sweep.storage={url}", "sweep.pruner=median")
        while not list(Path("runs/cut/trials").glob("*/checkpoints/last")):
            assert process.poll() is None, process.communicate()
    out, _ = process.communicate(timeout=40)  # a worker that waits for a reply must not be waited for
    assert process.returncode == 1, out
    assert "the sweep's storage does not answer any more" in out
    assert "Traceback" not in out
    ended = [json.loads(file.read_text())["status"] for file in Path("runs/cut/trials").glob("*/result.json")]
    assert ended == ["interrupted"]
