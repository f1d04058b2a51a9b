"""The table of a model's layers as text, in the course's notation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnforge.shapes import Pair, Shape, Window
from cnnforge.spec import Row

HEAD = ("layer", "type", "output", "activations", "f", "s", "p", "parameters", "MACs", "receptive field", "")
RIGHT = frozenset(HEAD[3:-1])


@dataclass(frozen=True)
class Check:
    """A model's layers and what training it takes; prints as a table.

    rows:   one per layer, the implied flatten included, the input not
    memory: bytes by purpose for training with ``batch_size``, ``precision`` and ``optimizer``; ``total`` is their sum
    """

    name: str
    input: Shape
    rows: tuple[Row, ...]
    loss: str
    memory: Mapping[str, int]
    batch_size: int
    precision: str
    optimizer: str

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(row.param_count for row in self.rows)

    @property
    def trainable_params(self) -> int:
        """Number of weights that training changes."""
        return sum(row.trainable_count for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's way forward, of conv and linear."""
        return sum(row.macs for row in self.rows)

    @property
    def weighted_layers(self) -> int:
        """Layers as courses count them: convolutions and fully connected ones."""
        return sum(bool(row.macs) for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The numbers as ``cnnforge check --json`` prints them.

        Its ``workspace`` is everything that has no name of its own there: kernels' workspace, running statistics and
        the step block.
        """
        kept = {name: self.memory[name] for name in ("params", "gradients", "optimizer", "activations")}
        return {
            "model": self.name,
            "input": list(self.input),
            "layers": [
                {
                    "name": row.name,
                    "type": row.type,
                    "output": list(row.output),
                    "activation_size": row.activation_size,
                    "params": row.param_count,
                    "macs": row.macs,
                    "receptive_field": list(row.field.size),
                }
                for row in self.rows
            ],
            "params": self.params,
            "trainable_params": self.trainable_params,
            "macs": self.macs,
            "memory": kept | {"workspace": self.memory["total"] - sum(kept.values()), "total": self.memory["total"]},
        }

    def __str__(self) -> str:
        return table(self)


def table(check: Check) -> str:
    """Title, one line per layer, totals, loss and memory.

    activations: numbers in the output of one sample;  f, s, p: the window's size, stride and padding;
    receptive field: rows x columns of the input that one output depends on
    """
    rows = [_cells(row) for row in check.rows]
    total = ("total", "", "", "", "", "", "", f"{check.params:,}", f"{check.macs:,}", "", "")
    lines = _aligned([HEAD, *rows, total])
    width = max(map(len, lines))
    lines = [lines[0], "-" * width, *lines[1:-1], "-" * width, lines[-1]]
    title = f"{check.name}: {by(check.input)} input"
    return "\n".join([title, "", *lines, "", *_summary(check)])


def _cells(row: Row) -> tuple[str, ...]:
    f, s, p = ("", "", "") if row.window is None else _window(row.window)
    params, macs = (f"{n:,}" if n else "" for n in (row.param_count, row.macs))
    notes = [row.block.outline(row.input)] + (["frozen"] if row.block.frozen and row.params else [])
    notes += [f"reads {row.block.input}"] if row.block.input else []
    sees = by(row.field.size)
    return (row.name, row.type, by(row.output), f"{row.activation_size:,}", f, s, p, params, macs, sees,
            ", ".join(note for note in notes if note))  # fmt: skip


def by(shape: Shape) -> str:
    """``(28, 28, 6)`` -> ``28x28x6``."""
    return "x".join(map(str, shape))


def _window(w: Window) -> tuple[str, str, str]:
    holes = "" if w.dilation == (1, 1) else f" d{_short(w.dilation)}"
    top, bottom, left, right = w.pads
    if top == bottom and left == right:
        return f"{_short(w.kernel)}{holes}", _short(w.stride), _short((top, left))
    return f"{_short(w.kernel)}{holes}", _short(w.stride), ",".join(map(str, w.pads))


def _short(size: Pair) -> str:
    """One number where both are equal."""
    return str(size[0]) if size[0] == size[1] else by(size)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if name in RIGHT else "<" for name in HEAD]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def _summary(check: Check) -> Iterable[str]:
    weighted, frozen = check.weighted_layers, check.params - check.trainable_params
    yield f"{weighted} layer{'s' * (weighted != 1)} with weights" + (
        f", {frozen:,} parameters frozen" if frozen else ""
    )
    yield f"loss {check.loss}"
    memory = check.memory
    parts = [f"{name} {bytes_text(n)}" for name, n in memory.items() if n and name != "total"]
    yield f"training memory {bytes_text(memory['total'])}: {', '.join(parts)}"
    yield f"  (batch {check.batch_size}, {check.precision}, {check.optimizer})"


def bytes_text(n: int) -> str:
    """``2,612,224`` -> ``2.5 MiB``."""
    size, units = float(n), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{n} B"
        size /= 1024
    return f"{size:,.1f} {units[-1]}"
