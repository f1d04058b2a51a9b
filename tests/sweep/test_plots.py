"""The pictures: which there are, what is in them, and that little or odd data is no trouble. Warnings are errors."""

import random

import pytest

from cnnforge.spec.axis import Axis
from cnnforge.spec.sweep import Objective
from cnnforge.sweep import plots
from cnnforge.sweep.report import read_report
from cnnforge.sweep.study import FEWEST, importances
from tests.sweep.folders import ACCURACY, LOSS, MACS, mixed, trial, write_sweep

SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "model.layers.conv1.filters": {"low": 4, "high": 16},
    "optimizer": {"choices": ["adam", "sgd"]},
}


def many(folder, count, objective=(ACCURACY,), result=None):
    """Trials whose learning rate decides, 0.01 the best."""
    chance = random.Random(0)
    trials, curves = [], {}
    for n in range(1, count + 1):
        power = chance.uniform(-4, -1)
        values = {"optimizer.lr": 10**power, "model.layers.conv1.filters": chance.randint(4, 16)}
        values["optimizer"] = chance.choice(["adam", "sgd"])
        made = result or {"val_accuracy": 0.95 - 0.1 * (power + 2) ** 2, "val_loss": 100 ** abs(power + 2)}
        trials.append(trial(n, "finished", values, result=made))
        curves[str(n)] = [made[objective[0]["metric"]]] * 3
    return write_sweep(folder, SPACE, trials, objective=objective, best=[1] if count else [], curves=curves)


def drawn(folder):
    return [path.name for path in plots.draw(read_report(folder))]


def words(figure):
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def test_all_pictures(tmp_path):
    folder = many(tmp_path / "s", 20, (ACCURACY, MACS))
    assert drawn(folder) == ["parallel.png", "importance.png", "history.png", "epochs.png", "pareto.png"]
    assert sorted(path.name for path in (folder / "plots").iterdir()) == sorted(drawn(folder))
    assert all((folder / "plots" / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for name in drawn(folder))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("objective", [(ACCURACY,), (LOSS, MACS)])
def test_few_trials(tmp_path, count, objective):
    made = drawn(many(tmp_path / "s", count, objective))
    assert ("parallel.png" in made, "importance.png" in made) == (count > 0, False)


@pytest.mark.parametrize("value", [0.0, 0.5, 1e30, -3.0])
def test_all_equal(tmp_path, value):
    folder = many(tmp_path / "s", FEWEST + 1, (LOSS,), {"val_loss": value})
    assert drawn(folder) == ["parallel.png", "history.png", "epochs.png"]
    both = many(tmp_path / "both", FEWEST + 1, (LOSS, ACCURACY), {"val_loss": value, "val_accuracy": 0.5})
    assert drawn(both) == ["parallel.png", "history.png", "epochs.png", "pareto.png"]


def test_one_axis_with_one_choice(tmp_path):
    one = [trial(1, "finished", {"seed": 1}, result={"val_loss": 0.5}), trial(2, "failed", {"seed": 1})]
    folder = write_sweep(tmp_path / "s", {"seed": {"choices": [1]}}, one, objective=[LOSS], best=[1])
    assert drawn(folder) == ["parallel.png", "history.png"]


def test_every_state_and_a_condition(tmp_path):
    report = read_report(mixed(tmp_path / "mine"))
    parallel = plots.parallel(report)
    names = [label.get_text() for label in parallel.axes[0].get_xticklabels()]
    assert names == ["optimizer", "lr", "momentum", "val_accuracy"]
    assert {"adam", "nesterov", "0.001", "0.01", "0.1", "none", "95.00%"} <= words(parallel)
    best = [line for line in parallel.axes[0].lines if line.get_linewidth() > 2]
    assert [next(iter(line.get_ydata())) for line in best] == [1.0]
    (history,) = plots.history(report).axes
    assert [text.get_text() for text in history.get_legend().texts] == [
        "pruned, its last epoch", "best so far", "finished", "failed",
    ]  # fmt: skip
    so_far = next(line for line in history.lines if line.get_label() == "best so far")
    assert (list(so_far.get_xdata()), list(so_far.get_ydata())) == ([1, 2, 7], [0.9, 0.95, 0.95])
    (epochs,) = plots.epochs(report).axes
    assert [text.get_text() for text in epochs.get_legend().texts] == [
        "best (trial 2)", "finished, the brighter the better", "pruned", "failed or cut off",
    ]  # fmt: skip
    assert [1, 2] in [list(line.get_xdata()) for line in epochs.lines], "the pruned one ends"


def test_the_front_is_named(tmp_path):
    trials = [trial(n, "finished", {"seed": n}, result={"val_accuracy": 0.1 * n}) for n in range(1, 6)]
    space = {"seed": {"choices": [1, 2, 3, 4, 5]}}
    folder = write_sweep(tmp_path / "s", space, trials, objective=[ACCURACY, MACS], best=[1, 3, 5])
    assert words(plots.pareto(read_report(folder))) == {"1", "3", "5"}
    assert plots.pareto(read_report(mixed(tmp_path / "mine"))) is None


def test_losses_over_decades_are_logarithmic(tmp_path):
    report = read_report(many(tmp_path / "s", 20, (LOSS,)))
    assert plots.history(report).axes[0].get_yscale() == "log"
    assert plots.epochs(report).axes[0].get_yscale() == "log"
    assert plots.history(read_report(mixed(tmp_path / "mine"))).axes[0].get_yscale() == "linear"


def test_what_decides_is_important(tmp_path):
    report = read_report(many(tmp_path / "s", 40))
    (axes,) = plots.importance(report).axes
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "lr"
    shares = importances(report.axes, report.goals, [(t.values, t.scores) for t in report.ranked])
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.get) == "optimizer.lr"
    assert shares["optimizer.lr"] > 0.5


def test_of_too_few_nothing_is_said():
    axes, goals = {"seed": Axis.model_validate([1, 2])}, [Objective(metric="val_loss")]
    assert importances(axes, goals, [({"seed": 1 + n % 2}, [float(n)]) for n in range(FEWEST - 1)]) == {}
    assert importances(axes, goals, [({"seed": 1}, [0.5])] * FEWEST) == {}
