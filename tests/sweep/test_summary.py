"""What came of a sweep as text."""

from cnnforge.sweep.report import read_report
from cnnforge.sweep.summary import MOST, note, summary
from tests.sweep.folders import ACCURACY, LOSS, MACS, mixed, trial, write_sweep

SEEDS = {"seed": {"choices": list(range(100))}}


def test_everything(tmp_path):
    assert (
        "\n".join(summary(read_report(mixed(tmp_path / "mine"))))
        == """\
trial  optimizer     lr  momentum  val_accuracy
    2   nesterov   0.05       0.9        95.00%  best
    1       adam   0.01                  90.00%
    3       adam  0.001                  30.00%  pruned after 2 of 5 epochs
    4       adam    0.1                          failed
    5   nesterov   0.05       0.9                failed
    6       adam   0.02                  40.00%  killed after 1 of 5 epochs
    7       adam   0.03                  60.00%  cut off after 2 of 5 epochs

3 trials failed:
  trials 4, 5: training diverged: the loss is nan
    why:   lr
    fix:   a smaller one
  trial 6: its process died
    why:   signal 9: not enough memory, or kill -9

1 point was dropped:
  point 8: params is not <= 10

trials        2 finished, 1 pruned, 2 failed, 1 killed, 6 waiting, 1 dropped, 75.2 s
epochs        15 trained, 3 saved by pruning (17%)"""
    )


def test_means_and_deviations(tmp_path):
    results = [{"val_accuracy": 0.9, "val_accuracy_deviation": 0.012}, {"val_accuracy": 0.8}]
    trials = [trial(n, "finished", {"seed": n}, result=result) for n, result in enumerate(results, 1)]
    lines = list(summary(read_report(write_sweep(tmp_path / "s", SEEDS, trials, best=[1]))))
    assert lines[:3] == [
        "trial  seed    val_accuracy",
        "    1     1  90.00% ± 1.20%  best",
        "    2     2          80.00%",
    ]


def test_the_front_comes_first(tmp_path):
    scores = {1: 0.9, 2: 0.95, 3: 0.93, 4: 0.7}
    trials = [trial(n, "finished", {"seed": n}, result={"val_accuracy": score}) for n, score in scores.items()]
    folder = write_sweep(tmp_path / "s", SEEDS, trials, objective=[ACCURACY, MACS], best=[1, 2])
    assert list(summary(read_report(folder)))[:5] == [
        "trial  seed  val_accuracy   macs",
        "    2     2        95.00%  2,000  front",
        "    1     1        90.00%  1,000  front",
        "    3     3        93.00%  3,000",
        "    4     4        70.00%  4,000",
    ]


def test_the_smallest_loss_comes_first_and_many_are_cut(tmp_path):
    trials = [trial(n, "finished", {"seed": n}, result={"val_loss": 100.5 - n}) for n in range(1, MOST + 3)]
    lines = list(summary(read_report(write_sweep(tmp_path / "s", SEEDS, trials, objective=[LOSS], best=[MOST + 2]))))
    assert lines[1].split()[0] == str(MOST + 2)
    assert lines[MOST + 1] == "… and 2 more; --json has all"


def test_nothing_has_come_of_it(tmp_path):
    assert list(summary(read_report(write_sweep(tmp_path / "s", SEEDS, [])))) == [
        "trial  seed  val_accuracy", "", "trials        0 finished, 75.2 s",
    ]  # fmt: skip


def test_the_description_in_mlflow(tmp_path):
    assert (
        note(read_report(mixed(tmp_path / "mine")))
        == """\
**mine**: random, to maximize val_accuracy; 2 finished, 1 pruned, 2 failed, 1 killed, 6 waiting, 1 dropped

| trial | optimizer | lr | momentum | val_accuracy |
| --- | --- | --- | --- | --- |
| 2 | nesterov | 0.05 | 0.9 | 95.00% |
| 1 | adam | 0.01 |  | 90.00% |"""
    )
