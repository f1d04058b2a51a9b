"""docs/zoo.md: every shipped network in one table.

``python -m cnnforge.report.zoo > docs/zoo.md`` writes it; a test holds the committed page to this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from cnnforge.config import read_model, validate_model
from cnnforge.config.sources import shipped
from cnnforge.report.table import by
from cnnforge.spec import ModelSpec

_INTRODUCTION = """# The zoo

Networks that come with cnnforge, each a short file in [configs/model](../configs/model). This page is made from them by
`make docs`; a test holds it, and another the numbers to the published ones.

- *MACs*: multiply-accumulates of convolutions and linear layers for one picture; biases and norms are not counted.
- *layers*: convolutions and fully connected layers, those of shortcuts and gates included.
- *sees*: the receptive field, the rows and columns of the input that one position of the last feature map depends on.
  *all*: squeeze-and-excite gates let every position depend on the whole picture.

`cnnforge check model=NAME` prints a network layer by layer, `cnnforge train model=NAME data=…` trains it. Anything may
be changed on the way, the input too: `model.input=[64,64,3] model.layers.output.units=10`. The networks come without
trained weights. `cnnforge draw model=NAME` draws it, as these two:

![GoogLeNet's blocks](pictures/googlenet.svg)

![ResNet-50's blocks](pictures/resnet50.svg)
"""
_HEAD = ("model", "input", "parameters", "MACs", "layers", "sees", "published")
_RIGHT = frozenset(_HEAD[2:5])
#: ``(He et al., CVPR 2016)``: names, then where and when.
_PAPER = re.compile(r"\(([A-Z][^()]* \d{4})\)")


def page(folder: Path) -> str:
    """The whole page, in Markdown. folder: of the networks' files"""
    files = sorted(folder.glob("*.yaml"), key=lambda file: _natural(file.stem))
    rows = [_cells(validate_model(read_model(file)), _papers(file.read_text("utf-8"))) for file in files]
    rule = tuple("---:" if name in _RIGHT else "---" for name in _HEAD)
    lines = [f"| {' | '.join(cells)} |" for cells in (_HEAD, rule, *rows)]
    return "\n".join([_INTRODUCTION, *lines]) + "\n"


def _cells(model: ModelSpec, papers: Iterable[str]) -> tuple[str, ...]:
    params, macs = (sum(numbers) for numbers in zip(*((row.param_count, row.macs) for row in model.table), strict=True))
    weighted = sum(bool(row.macs) for row in model.table)
    link = f"[{model.name}](../configs/model/{model.name}.yaml)"
    return link, by(model.input), f"{params:,}", f"{macs:,}", f"{weighted}", _sees(model), "; ".join(papers)


def _sees(model: ModelSpec) -> str:
    """The receptive field of the last rows that have more than one position; ``all`` behind a gate."""
    wide = [i for i, row in enumerate(model.table) if len(row.output) == 3 and row.output[:2] != (1, 1)]
    last = max(wide, default=0)
    gated = any(row.output[:2] == (1, 1) for row in model.table[:last])
    return "all" if gated else by(model.table[last].field.size)


def _papers(text: str) -> list[str]:
    """The publications that a file's first comment names."""
    comment = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return _PAPER.findall("".join(comment))


def _natural(name: str) -> list[str | int]:
    """A key by which ``vgg11`` comes before ``vgg16``, and ``resnet50`` before ``resnet101``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


if __name__ == "__main__":
    print(page(shipped() / "model"), end="")
