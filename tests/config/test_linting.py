"""Warnings say where: file and line, what was overridden, and where a template was used."""

from __future__ import annotations

from pathlib import Path

from cnnforge.config import read_model, validate, warnings

NET = """
input: [9, 9, 3]
templates:
  conv_bn:
    parameters: {filters: int, kernel: int = 3, groups: int = 1}
    layers:
      conv: {type: conv, filters: =filters, kernel: =kernel, padding: =kernel // 2}
      norm: {type: batch_norm, activation: relu}
      pool: {type: pool, kernel: 2}
layers:
  stem: {type: conv_bn, filters: 8}
  two: {type: repeat, times: 2, block: {type: conv_bn, filters: 8, kernel: 1}}
  output: {type: fc, units: 10, activation: softmax}
"""


def said(tmp_path: Path, text: str) -> list[tuple[str, str, str]]:
    """(rule, what, where) of every warning."""
    file = tmp_path / "net.yaml"
    file.write_text(text)
    composed = read_model(file)
    found = [w.to_dict() for w in warnings(composed, validate(composed, match_data=False))]
    return [(w["rule"], w["what"], w["where"].replace(str(tmp_path), "")) for w in found]


def test_what_is_wrong_in_a_template_is_said_once_for_each_rule(tmp_path: Path) -> None:
    """Three uses, of which two lose pixels: one warning of each rule, and where the template was first used."""
    assert said(tmp_path, NET) == [
        ("unused-parameter", "templates.conv_bn: its parameter 'groups' changes nothing",
         "/net.yaml:5:49 (templates.conv_bn.parameters.groups)"),
        ("bias-before-norm", "stem.conv: its bias changes nothing before batch_norm",
         "/net.yaml:7:7 (templates.conv_bn.layers.conv), used at /net.yaml:11:3 (layers.stem)"),
        ("dropped-pixels", "stem.pool: nothing reads the last 1 of 9 rows and 1 of 9 columns",
         "/net.yaml:9:7 (templates.conv_bn.layers.pool), used at /net.yaml:11:3 (layers.stem)"),
    ]  # fmt: skip


def test_several_rules_at_one_place(tmp_path: Path) -> None:
    net = """
input: [6, 6, 1]
templates:
  same: {block: {type: conv, filters: 4, kernel: 2, padding: same}}
layers:
  conv1: {type: same}
  norm: {type: batch_norm, activation: relu}
  output: {type: fc, units: 10, activation: softmax}
"""
    place = "/net.yaml:4:10 (templates.same.block), used at /net.yaml:6:3 (layers.conv1)"
    assert [(rule, where) for rule, _, where in said(tmp_path, net)] == [
        ("bias-before-norm", place),
        ("even-kernel-same", place),
    ]


def test_a_sound_file(tmp_path: Path) -> None:
    sound = NET.replace(", groups: int = 1", "").replace("kernel // 2}", "kernel // 2, bias: false}")
    assert said(tmp_path, sound.replace("kernel: 2}", "kernel: 2, ceil_mode: true}")) == []
