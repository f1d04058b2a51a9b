"""Mistakes by the hundred: edits of sound configs, each at a line that is known because the edit is made there.

Nothing here asks cnnforge where a mistake is. An edit replaces text within one line; what must be said of it is that
line, or another of the few that ``Edit.lines`` names and the table beside says why.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "sound"
#: Texts of sound configs by group and option: ``model/plain``.
SOUND = {
    file.relative_to(_FOLDER).with_suffix("").as_posix(): file.read_text(encoding="utf-8")
    for file in sorted(_FOLDER.rglob("*.yaml"))
}


@dataclass(frozen=True)
class Edit:
    """One mistake: ``old`` becomes ``new`` in line ``line`` (from 1) of a sound config.

    lines: where the error may be reported; 0 stands for the file as a whole
    """

    kind: str
    config: str
    line: int
    old: str
    new: str
    lines: frozenset[int]

    def __str__(self) -> str:
        return f"{self.config}:{self.line} {self.kind}: {self.old.strip()} -> {self.new.strip() or 'nothing'}"


def edited(config: str, *edits: Edit) -> str:
    """A config's text with ``edits`` made. A line that becomes empty stays, so that the others keep their numbers."""
    lines = SOUND[config].split("\n")
    for edit in edits:
        before = lines[edit.line - 1]
        assert before.count(edit.old) == 1, edit
        lines[edit.line - 1] = before.replace(edit.old, edit.new)
    return "\n".join(lines)


#: Of each kind: what is replaced in a line, and by what, separated by `` | ``. Tried on every line of every config.
RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "deleted key": (
        (r"\btype: (?!repeat)\w+, ", ""),
        ("(?<=type: conv), filters: [^,}]+", ""),
        ("(?<=type: conv_bn), filters: [^,}]+", ""),
        (r"(?<=type: basic), filters: \d+", ""),
        (r"(?<=type: pool), kernel: \d+", ""),
        (r"(?<=type: fc), units: \d+", ""),
        (r"(?<=type: merge), inputs: \[.*?\]", ""),
        (r"(?<=type: inception), a: \d+", ""),
        (r"(?<=type: channel_shuffle), groups: \d+", ""),
        (r", times: \d", ""),
        (r", block: \{.*?\}", ""),
    ),
    "deleted line": (
        ("^(input|path): .*$", ""),
        ("^ +(filters|kernel|units|type): (?!int|size).*$", ""),
        ("^(type): .*$", ""),
    ),
    "wrong type": (
        (
            r"\bfilters: (?!int)[^,}]+",
            "filters: many | filters: 0 | filters: -4 | filters: 2.5 | filters: null | filters: true | "
            "filters: [3] | filters: {a: 1} | filters: '16'",
        ),
        (
            r"(?<!\w)kernel: (\d|=\w+(?= *[,}]))",
            "kernel: 0 | kernel: wide | kernel: 1.5 | kernel: null | kernel: yes",
        ),
        (r"\bstride: \d", "stride: 0 | stride: -2 | stride: two"),
        (r"\bpadding: (same|valid)", "padding: sane | padding: -1 | padding: [1, 1]"),
        (r"\bactivation: (relu|softmax|sigmoid)\b", "activation: relv | activation: 1 | activation: [relu]"),
        (r"\brate: 0\.\d+", "rate: 1.5 | rate: -0.5 | rate: often"),
        (r"\bgroups: (depthwise|\d)", "groups: depthwize | groups: 1.5 | groups: null | groups: [2]"),
        (r"\bunits: \d+", "units: ten | units: 0 | units: 1.5"),
        (r"\bbias: (false|true)", "bias: maybe | bias: 1 | bias: 'false'"),
        (r"\btrainable: (false|true)", "trainable: 2"),
        (r"\bmode: (add|average)", "mode: ad | mode: 3"),
        (r"\bmerge: (concat|multiply)", "merge: mltiply | merge: null"),
        (r"\bshortcut: auto", "shortcut: automatic | shortcut: false"),
        ("^input: .*$", "input: 32 | input: [32, 32] | input: [32, 32, 0] | input: null"),
        ("^name: net$", "name: 3 | name: a net"),
    ),
    "other group": (
        ("^lr: .*$", "lr: 0 | lr: -1 | lr: fast | lr: null | lr: [1] | lr: .nan | lrr: 1 | lr: 1e999"),
        ("^betas: .*$", "betas: 0.9 | betas: [0.9] | betas: [0.9, 1.5] | betas: [a, b] | momentum: 0.9"),
        ("^weight_decay: .*$", "weight_decay: -1 | weightdecay: 0.1 | weight_decay: yes"),
        ("^type: adam$", "type: adamm | type: 3 | type: null"),
        ("^epochs: .*$", "epochs: 0 | epochs: 1.5 | epochs: ten | epoch: 3 | epochs: 1e1 | lr: 3"),
        ("^batch_size: .*$", "batch_size: -3 | batchsize: 3 | batch_size: '32'"),
        ("^backend: .*$", "backend: nunpy | backend: 3 | backends: auto"),
        ("^precision: .*$", "precision: float23 | precision: 32"),
        ("^type: synthetic$", "type: synthetics | type: 3"),
        ("^size: .*$", "size: [32, 32] | size: 32 | size: [0, 1, 1] | shape: [1, 1, 1]"),
        ("^classes: .*$", "classes: 0 | classes: two | clases: 10"),
        ("^samples: .*$", "samples: -1 | samples: null | sample: 5"),
    ),
    "unknown key": (
        (r"\bfilters(?=: (\d|=))", "filterz | fiters"),
        (r"(?<!\w)kernel(?=: (\d|=))", "kernal | ker nel"),
        (r"\bstride(?=: (\d|=))", "strides | speed"),
        (r"\bpadding(?=: )", "pading | margin"),
        (r"\bactivation(?=: (relu|none|=))", "activaton | nonlinearity"),
        (r"\bgroups(?=: )", "grups"),
        (r"\bunits(?=: )", "unit"),
        (r"\brate(?=: [0=])", "ratio"),
        (r"\btimes(?=: )", "time"),
        (r"\bfirst(?=: )", "frist"),
        ("^(layers|templates|name)(?=: )", "nmae"),
        (r"\bmode(?=: )", "mod"),
        (r"\bshortcut(?=: )", "shortcuts"),
    ),
    "unknown type": (
        (
            r"\btype: (conv|conv_bn|pool|fc|dropout|basic|inception|residual|branches|merge)(?=[,}\n]|$)",
            "type: conw | type: Dense | type: 3 | type: null | type: [conv]",
        ),
    ),
    "bad reference": (
        (r"\bafter: \w+", "after: nowhere | after: 3 | after: a b"),
        (r"\binput: stage", "input: stages | input: output | input: 3 | input: right | input: stage.9"),
        (
            r"\binputs: \[left, right\]",
            "inputs: [left, wright] | inputs: [left] | inputs: left | inputs: [left, 3] | "
            "inputs: [left, both] | inputs: []",
        ),
    ),
    "bad template": (
        (r"(?<=filters: )int\b", "integer | str | 5 | null"),
        ("(?<=stride: int = )1", "one | 1.5 | true | -1 | 0"),
        ("(?<=kernel: size = )3", "[3] | [3, 3, 3] | x | 0"),
        ("(?<=rate: float = )0.1", "high | 1.5"),
        ("(?<=bias: bool = )false", "maybe | 0"),
        ("(?<=activation: text = )relu", "rely"),
        ("^    block:$", "    blocks:"),
        ("^  spare:", "  conv: |   pool: |   3: |   a b:"),
        (
            "(?<=^  spare: ).*$",
            "{} | {block: {type: flatten}, layers: {}} | conv | null | [] | "
            "{block: {type: flatten}, parameters: {type: int}} | {block: conv} | {layers: 3} | "
            "{blok: {type: flatten}} | {block: {type: flatten}, parameters: [a]}",
        ),
        ("(?<=type: )conv_bn(?=, filters: =(filters, stride|b // 2))", "basic | inception"),
    ),
    "bad argument": (
        (r"(?<=type: inception, )a: \d+", "a: sixteen | a: -16 | a: 2.5 | a: null"),
        (r"(?<=filters: 64\}, first: \{)stride: 2", "strid: 2 | stride: two | stride: null"),
        ("(?<=type: conv_bn, filters: 16)(?=[,}])", ", units: 3 | , layers: {}"),
        (r"(?<=channels: )=a \+ b", "text | 2.5"),
    ),
    "bad expression": (
        (
            "=kernel // 2",
            "=kernel / 2 | =kernal // 2 | =(kernel // 2 | =kernel // 0 | =kernel //  | =kernel ** 2 | "
            "=kernel // 2) | =",
        ),
        (
            "=channels // ratio",
            "=channels / ratio | =channels // rate | =channels // (ratio | =channels % 0 | "
            "=channels * 999999999999999 | =channels ratio | =min(channels) | =channels // 0",
        ),
        ("=filters(?=, (kernel|stride))", "=filters + activation | =filter | =filters.real"),
        ("(?<=filters: )16", "=16 * width"),
    ),
    "bad repeat": (
        (r"\btimes: \d", "times: three | times: -1 | times: 2.5 | times: null | times: =n | times: true"),
        (r"\bblock: \{.*?\}", "block: conv | block: [] | block: null"),
        (r"(?<=times: \d, )block: \{.*?\}", "block: {} | block: {kind: conv}"),
        (r"\bfirst: \{.*?\}", "first: 2 | first: [stride] | first: {strid: 2}"),
    ),
}


#: Shapes that do not fit: config, block, what is replaced, by what, and blocks that may be named instead, because two
#: things that do not go together are the mistake of where they meet.
IMPOSSIBLE: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("model/plain", "conv1", "kernel: 5", "kernel: 33", ()),
    ("model/plain", "conv2", "kernel: 5", "kernel: [3, 15]", ()),
    ("model/plain", "conv2", "stride: 1", "groups: 5", ()),
    ("model/plain", "conv2", "bias: true", "groups: 4", ()),
    ("model/plain", "conv2", "padding: valid", "dilation: 9", ()),
    ("model/plain", "pool2", "kernel: 2", "kernel: 11", ()),
    ("model/plain", "pool1", "stride: 2", "padding: 9", ()),
    ("model/plain", "output", "units: 10", "units: 1", ()),
    ("model/nested", "conv", "padding: =kernel // 2", "padding: 0", ("block",)),
    ("model/nested", "conv", "padding: =kernel // 2", "dilation: 40", ()),
    ("model/nested", "conv", "bias: false", "groups: 5", ()),
    ("model/nested", "block", "activation: relu", "shortcut: identity", ()),
    ("model/nested", "stem", "filters: 16", "filters: 16, kernel: 2, stride: 40, input: output", ()),
    ("model/nested", "output", "units: 10", "units: 1", ()),
    ("model/branching", "left", "groups: 4", "groups: 5", ()),
    ("model/branching", "left", "filters: 16", "filters: 24", ("both",)),
    ("model/branching", "left", "padding: same", "padding: valid", ("both",)),
    ("model/branching", "left", "kernel: 3", "kernel: 3, stride: 2", ("both",)),
    ("model/branching", "right", "kernel: 1", "kernel: 99", ()),
    ("model/branching", "both", "[left, right]", "[left, pool1]", ()),
    ("model/branching", "both", "[left, right]", "[left, mix1.split]", ()),
    ("model/branching", "shuffle", "groups: 4", "groups: 3", ()),
    ("model/branching", "even", "groups: 4", "groups: 3", ()),
    ("model/branching", "up", "kernel: 2", "kernel: 2, groups: 3", ()),
    ("model/branching", "deep", "kernel: 3", "kernel: 3, filters: 20", ()),
    ("model/branching", "conv2", "padding: same", "padding: valid", ("keep",)),
    ("model/branching", "conv2", "filters: 16", "filters: 16, groups: 7", ()),
    ("model/branching", "expand", "filters: =channels", "filters: 7", ("block",)),
    ("model/branching", "gate", "channels: =a + b", "channels: =a", ("block",)),
    ("model/branching", "three", "kernel: 1", "kernel: 1, stride: 2", ("split",)),
    ("model/branching", "pool1", "kernel: 2", "kernel: 33", ()),
    ("model/branching", "output", "units: 10", "units: 1", ()),
)


def _owner(lines: list[str], number: int) -> int:
    """The line of the block that line ``number`` is a key of: the closest one above that is indented less."""
    indents = [len(line) - len(line.lstrip()) if line.strip() else 99 for line in lines]
    return next((i for i in range(number - 1, 0, -1) if indents[i - 1] < indents[number - 1]), 0)


def _block(lines: list[str], name: str) -> int:
    """The first line that begins with the key ``name``."""
    return next(i for i, line in enumerate(lines, start=1) if line.lstrip().startswith(f"{name}:"))


def edits() -> Iterator[Edit]:
    """Every mistake of the rules and of the list above."""
    rules = [(kind, *rule) for kind, some in RULES.items() for rule in some]
    for config, text in SOUND.items():
        lines = text.split("\n")
        for number, line in enumerate(lines, start=1):
            for kind, pattern, replacements in rules:
                for found in re.finditer(pattern, line):
                    at = _owner(lines, number) if kind == "deleted line" else number
                    for new in replacements.split(" | "):
                        # With the rest of the line, so that ``old`` occurs once.
                        new += line[found.end() :]
                        yield Edit(kind, config, number, line[found.start() :], new, frozenset({at}))
    for config, name, old, new, others in IMPOSSIBLE:
        lines = SOUND[config].split("\n")
        start = _block(lines, name)
        number = next(i for i in range(start, len(lines) + 1) if old in lines[i - 1])
        accepted = frozenset({start, number, *(_block(lines, other) for other in others)})
        yield Edit("impossible loss" if new == "units: 1" else "impossible shape", config, number, old, new, accepted)


#: Fields of which a wrong value says nothing about sizes.
_LIGHT = re.compile(r"(activation|rate|bias|mode): ")
_TEMPLATE_USE = re.compile(r"type: (conv_bn|basic|squeeze|inception|repeat)")


def _entry(config: str, line: int) -> int:
    """The line at which the layer or template begins that ``line`` is in."""
    lines = SOUND[config].split("\n")
    return next((i for i in range(line, 0, -1) if re.match(r"  \w", lines[i - 1])), line)


def _is_light(edit: Edit) -> bool:
    """Does it hide nothing else? A wrong value that sizes do not depend on, of a block that is no template's."""
    lines = SOUND[edit.config].split("\n")
    return (
        edit.line > lines.index("layers:")
        and edit.kind in ("wrong type", "unknown key")
        and _LIGHT.match(edit.old + " ") is not None
        and "nonlinearity" not in edit.new
        and not _TEMPLATE_USE.search(lines[edit.line - 1])
    )


def triples(config: str, number: int) -> Iterator[tuple[Edit, Edit, Edit]]:
    """Three mistakes in three layers or templates: one of any kind, and two that it cannot hide."""
    draw = random.Random(config)
    # The loss is looked at last, when the shapes are right.
    everything = [edit for edit in edits() if edit.config == config and edit.kind != "impossible loss"]
    light = [edit for edit in everything if _is_light(edit)]
    while number:
        one, two, three = draw.choice(everything), *draw.sample(light, 2)
        if len({_entry(config, edit.line) for edit in (one, two, three)}) == 3:
            yield one, two, three
            number -= 1
