"""The table of layers, to the letter."""

from __future__ import annotations

import pytest

from cnnforge.report.check import check
from cnnforge.report.table import bytes_text, comparison, seconds_text, table

ODD = """
name: odd
input: [20, 10, 3]
layers:
  conv: {type: conv, filters: 4, kernel: [5, 3], stride: [2, 1], padding: same, dilation: 1, activation: relu}
  hole: {type: conv, filters: 4, kernel: 3, dilation: 2, padding: 2, groups: 2, bias: false, trainable: false}
  even: {type: conv, filters: 2000, kernel: 2, padding: same}
  drop: {type: dropout, rate: 0.25}
  pool: {type: global_pool}
  out: {type: fc, units: 1}
"""


def test_a_layer_says_what_it_reads_where_that_is_not_the_one_before() -> None:
    layers = "  a: {type: conv, filters: 2, kernel: 1}\n  b: {type: pool, kernel: 2, input: input}\n"
    text = table(check(f"name: net\ninput: [8, 8, 1]\nlayers:\n{layers}"))
    assert [line.split("  ")[-1].strip() for line in text.split("\n")[4:6]] == ["1x1", "max, reads input"]


def test_an_odd_network() -> None:
    text = table(check(ODD))
    lines = [line.rstrip() for line in text.split("\n")]
    assert lines[0] == "odd: 20x10x3 input"
    rows = {line.split()[0]: line.split() for line in lines[3:] if line}
    assert rows["conv"] == ["conv", "conv", "10x10x4", "400", "5x3", "2x1", "1,2,1,1", "184", "18,000", "5x3", "relu"]
    assert rows["hole"] == [
        "hole",
        "conv",
        "10x10x4",
        "400",
        "3",
        "d2",
        "1",
        "2",
        "72",
        "7,200",
        "13x7",
        "groups",
        "2,",
        "no",
        "bias,",
        "frozen",
    ]
    assert rows["even"] == ["even", "conv", "10x10x2000", "200,000", "2", "1", "0,1,0,1", "34,000", "3,200,000", "15x8"]
    assert rows["drop"] == ["drop", "dropout", "10x10x2000", "200,000", "15x8", "rate", "0.25"]
    assert rows["pool"][:7] == ["pool", "global_pool", "1x1x2000", "2,000", "10", "1", "0"]
    assert rows["total"] == ["total", "36,257", "3,227,200"]
    assert "4 layers with weights, 72 parameters frozen" in lines
    assert "loss mse" in lines


def test_columns_are_aligned() -> None:
    lines = table(check(ODD)).split("\n")[2:]
    ends = {line.rindex("relu") - 2 for line in lines if "relu" in line}
    head = lines[0]
    assert ends == {head.index("receptive field") + len("receptive field")}


def test_more_columns_on_request() -> None:
    lines = table(check(ODD), wide=True, versus_fc=True).split("\n")
    assert lines[2].split("receptive field")[1].split() == ["jump", "offset", "bytes", "vs", "fc"]
    rows = {line.split()[0]: line.split() for line in lines[3:] if line}
    assert rows["conv"][10:] == ["2x1", "1.5,0.5", "1,600", "240,400", "(1,307x)", "relu"]
    assert rows["hole"][11:16] == ["2x1", "1.5,0.5", "1,600", "160,000", "(2,222x)"]
    assert rows["drop"][5:] == ["2x1", "2.5,1", "800,000", "rate", "0.25"]
    assert rows["total"] == ["total", "36,257", "3,227,200"]


def test_nets_side_by_side() -> None:
    one, other = check(ODD), check(ODD.replace("odd", "even").replace("units: 1}", "units: 3, activation: softmax}"))
    lines = comparison([one, other]).split("\n")
    assert [line.split() for line in lines[2:4]] == [
        ["odd", "20x10x3", "4", "36,257", "3,227,200", *bytes_text(one.memory["total"]).split(), "33x17", "1"],
        ["even", "20x10x3", "4", "40,259", "3,231,200", *bytes_text(other.memory["total"]).split(), "33x17", "3"],
    ]
    assert lines[-1] == "memory of training with batch 64, float32, adam"
    timed = comparison([one, other], [0.25, None]).split("\n")
    assert (" 250 ms " in timed[2], " ms " in timed[3]) == (True, False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0001234, "0.123 ms"), (0.5, "500 ms"), (1.25, "1.25 s"), (119, "119 s"), (600, "10 min"), (36_000, "10.0 h")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (2_612_224, "2.5 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5,120.0 TiB"),
    ],
)
def test_bytes(n: int, text: str) -> None:
    assert bytes_text(n) == text
