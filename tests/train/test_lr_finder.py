"""The learning rate search: what it suggests, where it ends, what it draws."""

import json
from math import log

import pytest
from PIL import Image

from cnnforge.cli.main import main
from cnnforge.train.lr_finder import _suggested

SMALL = ["lr", "model=lenet5", "data=synthetic", "data.samples=100", "data.noise=0.1", "trainer.batch_size=32"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_steepest_fall_and_the_lowest_point_of_a_known_curve():
    rates = [1e-6 * 10 ** (i / 20) for i in range(121)]
    # falls around 1e-3, is lowest at 1e-2, then rises
    smooth = [3 - 2 / (1 + 10 ** (-3 * (log(r / 1e-3) / log(10)))) + 5 * max(0, log(r / 1e-2)) for r in rates]
    steepest, lowest = _suggested(rates, smooth)
    assert steepest == pytest.approx(1e-3, rel=0.3)
    assert lowest == pytest.approx(1e-2, rel=0.3)


def test_the_command_suggests_a_rate_and_draws(capsys):
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    assert "the loss falls fastest at" in out
    assert "try it:   optimizer.lr=" in out
    with Image.open("lr.png") as picture:
        assert picture.size[0] > 500


def test_json_has_every_point(capsys):
    assert main([*SMALL, "--json", "--steps", "40", "--to", "0.1", "--out", "a.svg"]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = [point["lr"] for point in found["points"]]
    assert rates[0] == pytest.approx(1e-6)
    assert rates == sorted(rates)
    assert len(rates) <= 40
    assert found["steepest"] in rates


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--from", "1", "--to", "0.1"], "there is nothing between them"),
        (["--steps", "3"], "too few to see a slope"),
        (["--out", "lr.jpeg"], "cannot be drawn"),
        (["--out", "nowhere/lr.png"], "cannot be drawn"),
        (["--from", "1e20", "--to", "1e22"], "the loss exploded after"),
    ],
)
def test_what_cannot_be_searched_is_named(words, what, capsys):
    assert main([*SMALL, *words]) in (2, 3)
    complaint = capsys.readouterr().err
    assert what in complaint
    assert "fix:" in complaint
