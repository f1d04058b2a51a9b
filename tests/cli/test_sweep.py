"""``cnnforge sweep`` and ``cnnforge train -m`` as a user runs them."""

import json
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.tracking.state import locked
from tests.cli.test_main import imports_of
from tests.cores import two_cores
from tests.sweep.folders import mixed

ROOT = Path(__file__).parents[2]
QUICK = [
    "data=synthetic", "data.samples=64", "data.test_samples=16", "tracking=none", "trainer.max_steps=2",
    "trainer.batch_size=16", "trainer.backend=numpy", "trainer.threads=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """On a machine of two cores that has not been measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with two_cores():
        yield


@pytest.mark.parametrize("command", [["train", "-m"], ["sweep"]])
def test_two_by_two(command, capsys, tmp_path):
    assert main([*command, "model=lenet1,lenet5", "optimizer.lr=0.1,0.01", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("sweep: grid over 2 axes (4 points), to minimize val_loss\n")
    assert out.index("4 trials; training memory at most") < out.index(
        "trial 1 finished  model=lenet1 optimizer.lr=0.1  val_loss "
    )
    assert "\ntrials        4 finished, " in out
    assert "\nsweep folder  runs/sweep/\n" in out
    kept = json.loads((tmp_path / "runs/latest/sweep.json").read_text())
    assert [trial["state"] for trial in kept["trials"]] == ["finished"] * 4
    assert [trial["result"]["steps"] for trial in kept["trials"]] == [2] * 4
    assert sorted(p.name for p in (tmp_path / "runs/sweep/trials").iterdir()) == list("1234")
    losses = {trial["number"]: trial["result"]["val_loss"] for trial in kept["trials"]}
    table = out.split("\n\n")[-2].splitlines()
    assert [int(line.split()[0]) for line in table[1:]] == sorted(losses, key=losses.get)
    assert [line.endswith("best") for line in table[1:]] == [True, False, False, False]


def test_what_is_impossible_is_named_before_the_rest_is_trained(capsys):
    assert main(["sweep", "model=lenet5", "model.layers.conv1.kernel=5,40", "sweep.name=windows", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "1 point is dropped:\n  point 2: conv1: a 40x40 window does not fit a 32x32 input\n" in out
    assert out.index("is dropped") < out.index("trial 1 finished")
    assert "trial 2 " not in out
    assert "1 finished" in out
    assert Path("runs/windows/trials/1/result.json").exists()


def test_check_stops_before_training(capsys):
    assert main(["sweep", "sweep=lenet_structure", "--check"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "lenet_structure: grid over 4 axes (24 points), to maximize val_accuracy"
    assert [line.split()[0] for line in lines if line.endswith("  dropped")] == ["8", "16", "22", "23", "24"]
    assert "5 points are dropped:" in lines
    assert lines[-2:] == [
        "19 trials; training memory at most 4.2 MiB",
        "training time: not measured on this machine; cnnforge sweep --check --time does it once",
    ]
    assert not Path("runs").exists()


def test_check_with_a_sampler_that_chooses_later(capsys):
    assert main(["sweep", "sweep=under_100k", "--check"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "under_100k: nsga2 over 4 axes (3,120,975 points), to maximize val_accuracy and minimize macs\n"
    )
    assert "\n… and 96 more; --json has all\n" in out
    assert "\n116 points looked at, 81 of them fit; nsga2 chooses its points from the results\n48 trials; " in out


def test_the_time(capsys):
    words = ["model=lenet1", "seed=1,2", "trainer.max_steps=2", "trainer.batch_size=8", "trainer.backend=numpy"]
    assert main(["sweep", "--check", "--time", *words]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == ["point", "seed", "parameters", "MACs", "memory", "time"]
    assert " (as measured on this machine; validation not)\n" in out
    assert main(["sweep", "--check", "--json", *words]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["seconds"] == pytest.approx(sum(point["seconds"] for point in shown["points"]))


def test_check_as_json(capsys):
    assert (
        main(["sweep", "optimizer=sgd,momentum", "optimizer.momentum=0.9,0.5", "seed=0,-1", "--check", "--json"]) == 0
    )
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == [
        "sweep", "sampler", "objective", "size", "points", "duplicates", "trials", "runs", "memory", "seconds", "notes",
    ]  # fmt: skip
    assert (shown["size"], shown["trials"], shown["duplicates"]) == (8, 2, {"5": 1, "7": 3})
    assert shown["objective"] == [{"metric": "val_loss", "direction": "minimize"}]
    assert shown["points"][0] == {
        "number": 1, "values": {"optimizer": "sgd", "optimizer.momentum": 0.9, "seed": 0},
        "overrides": ["optimizer=sgd", "optimizer.momentum=0.9", "seed=0"], "feasible": True,
        "params": 62006, "macs": 651720, "memory": shown["points"][0]["memory"], "seconds": None,
    }  # fmt: skip
    assert shown["points"][1]["reasons"] == [
        {"what": "seed cannot be -1", "where": "<override 'seed=-1'> (seed)", "why": "-1 is below 0",
         "fix": "a whole number of 0 or more; 0 where it is left out", "path": "seed"},
    ]  # fmt: skip


def test_json_of_a_whole_sweep_is_all_that_stdout_holds(capsys):
    assert main(["sweep", "model=lenet5", "seed=1,2", "--json", *QUICK]) == 0
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert (shown["run"], [trial["state"] for trial in shown["trials"]]) == ("runs/sweep", ["finished"] * 2)
    assert err.startswith("sweep: grid over 1 axis (2 points)")
    more = {"run", "epochs", "curves"}
    assert json.loads(Path("runs/sweep/sweep.json").read_text()) == {k: v for k, v in shown.items() if k not in more}
    assert shown["epochs"] == {"trained": 2, "saved": 0}
    assert main(["sweep", "report", "sweep", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


def test_report_prints_later_what_was_printed_at_the_end(capsys, tmp_path):
    assert main(["sweep", "model=lenet5", "seed=1,2", *QUICK, f"run.dir={tmp_path / 'mine'}"]) == 0
    end = capsys.readouterr().out.split("\n\ntrial  ")[1]
    pictures = {path: path.read_bytes() for path in (tmp_path / "mine/sweep/plots").iterdir()}
    assert sorted(path.name for path in pictures) == ["epochs.png", "history.png", "parallel.png"]
    for path in pictures:
        path.unlink()
    for words in (["sweep", "--dir", "mine"], ["latest", "--dir", "mine"], ["mine/sweep"]):
        assert main(["sweep", "report", *words]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == ("\ntrial  " + end, "")
    assert {path: path.read_bytes() for path in pictures} == pictures
    assert "\nepochs        2 trained\n" in end
    assert "\npictures      mine/sweep/plots/\n" in end


def test_report_of_a_sweep_that_was_cut_off(capsys, tmp_path):
    mixed(tmp_path / "runs/mine")
    assert main(["sweep", "report", "mine"]) == 0
    out = capsys.readouterr().out
    assert "  cut off after 2 of 5 epochs\n" in out
    assert "\ngo on         python -m cnnforge sweep resume=mine\n" in out
    with locked(tmp_path / "runs/mine/.driver-host-1"):
        assert main(["sweep", "report", "mine"]) == 0
    out = capsys.readouterr().out
    assert ", 75.2 s so far\n" in out
    assert "go on" not in out


def test_report_where_nothing_can_be_written(capsys, tmp_path):
    mixed(tmp_path / "runs/mine")
    (tmp_path / "runs/mine/plots").write_text("")
    assert main(["sweep", "report", "mine"]) == 0
    out, err = capsys.readouterr()
    assert err == "the pictures cannot be written: File exists\n"
    assert "pictures" not in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["report"],
            "report is about one sweep that is there\n  where: cnnforge sweep report\n  why:   0 were named\n"
            "  fix:   cnnforge sweep report SWEEP, with --json or --dir DIR\n",
        ),
        (
            ["report", "mine", "--retry"],
            "report is about one sweep that is there\n  where: cnnforge sweep report\n"
            "  why:   the other flags are about sweeps to be run\n"
            "  fix:   cnnforge sweep report SWEEP, with --json or --dir DIR\n",
        ),
        (
            ["report", "mine"],
            "mine: no such sweep\n  where: looked in runs\n  why:   there is none there\n"
            "  fix:   cnnforge runs list says what is there; or the path of a sweep's folder\n",
        ),
        (
            ["sweep=lr_search", "--dir", "mine"],
            "--dir without report SWEEP\n  where: cnnforge sweep --dir\n"
            "  why:   a sweep to be run goes where run.dir says\n  fix:   run.dir=DIR\n",
        ),
    ],
)
def test_report_and_its_mistakes(words, text, capsys):
    assert main(["sweep", *words]) == 2
    assert capsys.readouterr() == ("", text)
    assert not Path("runs").exists()


def test_where_no_trial_finishes_the_first_error_ends_it(capsys, monkeypatch):
    monkeypatch.setenv("CNNFORGE_DATA", "nowhere")
    assert main(["sweep", "data=mnist", "seed=1,2", "tracking=none", "trainer.backend=numpy"]) == 3
    out, err = capsys.readouterr()
    assert "0 finished, 2 failed" in out
    assert "Traceback" not in err
    assert "CNNFORGE_DATA" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "nothing varies: the sweep has no axes\n"),
        (["optimizer.lrr=1,2"], "sweep.space: optimizer: unknown key 'lrr'\n"),
        (["seed=-1,-2"], "no point can be trained\n"),
        (["seed=1,-2", "sweep.infeasible=error"], "1 of 2 points cannot be trained\n"),
        (
            ["sweep=lr_search", "optimizer=adamw,nesterov", "sweep.sampler=grid"],
            "sweep: a grid cannot list optimizer.lr\n",
        ),
    ],
)
def test_mistakes_end_it_with_2(words, text, capsys):
    assert main(["sweep", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err[: len(text)]) == ("", text)
    assert not Path("runs").exists()


def test_checking_imports_nothing_heavy():
    loaded = imports_of("sweep", "sweep=lenet_structure", "--check")
    assert not loaded & {"numpy", "mlflow", "rich", "hydra", "omegaconf", "optuna", "sklearn", "scipy"}


def test_resume_of_a_sweep_names_the_command_for_it(tmp_path, capsys):
    (tmp_path / "s" / "trials").mkdir(parents=True)
    (tmp_path / "s" / "journal.jsonl").touch()
    assert main(["resume", "s", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "s is a sweep\n  where: cnnforge resume s\n  why:   resume goes on with one run\n"
        f"  fix:   cnnforge sweep resume=s run.dir={tmp_path}\n"
    )
