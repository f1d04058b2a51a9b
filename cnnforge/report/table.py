"""The table of a model's layers as text, in the course's notation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cnnforge.ir.graph import DTYPE_BYTES
from cnnforge.ir.precision import PRECISIONS
from cnnforge.shapes import Pair, Shape, Window, count
from cnnforge.spec import Row

HEAD = ("layer", "type", "output", "activations", "f", "s", "p", "parameters", "MACs", "receptive field")
WIDE = ("jump", "offset", "bytes")
VERSUS_FC = "vs fc"
#: Columns of names; numbers stand at the right.
LEFT = frozenset({"layer", "type", "output", "net", "input", ""})


@dataclass(frozen=True)
class Check:
    """A model's layers and what training it takes; prints as a table.

    rows:   one per layer, the implied flatten included, the input not
    memory: bytes by purpose for training with ``batch_size``, ``precision`` and ``optimizer``; ``total`` is their sum
    trainable_params: number of weights that training changes
    """

    name: str
    input: Shape
    rows: tuple[Row, ...]
    loss: str
    memory: Mapping[str, int]
    batch_size: int
    precision: str
    optimizer: str
    trainable_params: int

    @property
    def params(self) -> int:
        """Number of weights."""
        return sum(row.param_count for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's way forward, of conv and linear."""
        return sum(row.macs for row in self.rows)

    @property
    def weighted_layers(self) -> int:
        """Layers as courses count them: convolutions and fully connected ones."""
        return sum(bool(row.macs) for row in self.rows)

    def activation_bytes(self, row: Row) -> int:
        """Bytes of the output of one sample."""
        return row.activation_size * DTYPE_BYTES[PRECISIONS[self.precision].activations]

    def to_json(self, versus_fc: bool = False) -> dict[str, Any]:
        """The numbers as ``cnnforge check --json`` prints them.

        Of a layer, ``stride`` is the distance between neighbouring outputs and ``offset`` the centre of the first one,
        both [rows, columns] in pixels of the input, whose first pixel has its centre at 0.5; ``activation_bytes`` are
        those of one sample. With ``versus_fc`` a convolution has ``fc_params``, see ``fc_params``; others have null.
        ``workspace`` is everything that has no name of its own there: kernels' workspace, running statistics and the
        step block. A precision whose name does not say it all has ``precision``: the dtypes of activations and of
        weights, their gradients and slots, whether the loss is scaled, and what it means in words.
        """
        numbers = PRECISIONS[self.precision]
        precision = {
            "name": self.precision, "activations": numbers.activations, "weights": numbers.weights,
            "loss_scaled": numbers.scaled, "about": numbers.about,
        }  # fmt: skip
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
                    "activation_bytes": self.activation_bytes(row),
                    "params": row.param_count,
                    "macs": row.macs,
                    "receptive_field": list(row.field.size),
                    "stride": [int(n) if n == int(n) else float(n) for n in row.field.spacing],
                    "offset": [float(half) / 2 for half in row.field.offset],
                }
                | ({"fc_params": fc_params(row)} if versus_fc else {})
                for row in self.rows
            ],
            "params": self.params,
            "trainable_params": self.trainable_params,
            "macs": self.macs,
            "memory": kept | {"workspace": self.memory["total"] - sum(kept.values()), "total": self.memory["total"]},
        } | ({"precision": precision} if numbers.about else {})

    def __str__(self) -> str:
        return table(self)


def fc_params(row: Row) -> int | None:
    """Parameters of the fully connected layer from a convolution's input to its output volume; None for other layers.

    It has a weight for each pair of numbers, H*W*C * OH*OW*F, and OH*OW*F biases where the convolution has biases.
    """
    if row.type != "conv":
        return None
    return row.activation_size * (count(row.input) + ("b" in row.params))


def table(check: Check, wide: bool = False, versus_fc: bool = False, depth: int | None = None) -> str:
    """Title, one line per layer, totals, loss and memory.

    activations: numbers in the output of one sample;  f, s, p: the window's size, stride and padding;
    receptive field: rows x columns of the input that one output depends on
    With ``wide`` also jump and offset: pixels of the input from one output to the next, and to the centre of the first
    (the first pixel's is 0.5); bytes: of the activations. With ``versus_fc`` also what the fully connected layer in
    place of each convolution would have in parameters, and how many times as many that is. With ``depth`` layers whose
    names begin with the same so many parts are one line: their parameters and MACs together, the rest of the last.
    """
    head = [*HEAD, *(WIDE if wide else ()), *([VERSUS_FC] if versus_fc else []), ""]
    rows = []
    for group, (*cells, notes) in layer_lines(check.rows, depth):
        cells += _wide_cells(check, group[-1]) if wide else ()
        cells += [_versus(fc_params(group[0]), group[0].param_count) if len(group) == 1 else ""] if versus_fc else []
        rows.append([*cells, notes])
    total = ["total", "", "", "", "", "", "", f"{check.params:,}", f"{check.macs:,}", *[""] * (len(head) - 9)]
    lines = aligned([head, *rows, total])
    width = max(map(len, lines))
    lines = [lines[0], "-" * width, *lines[1:-1], "-" * width, lines[-1]]
    title = f"{check.name}: {by(check.input)} input"
    return "\n".join([title, "", *lines, "", *_summary(check)])


def comparison(checks: Sequence[Check], steps: Sequence[float | None] = ()) -> str:
    """Nets side by side, one line each: memory is for training, field and output are the last layer's.

    steps: seconds of a training step of each, where they are to be shown
    """
    first = checks[0]
    timed = ["step"] if steps else []
    rows = [["net", "input", "layers", "parameters", "MACs", "memory", *timed, "receptive field", "output"]]
    for i, check in enumerate(checks):
        last = check.rows[-1]
        step = [("" if (taken := steps[i]) is None else seconds_text(taken))] if steps else []
        rows.append([
            check.name, by(check.input), str(check.weighted_layers), f"{check.params:,}", f"{check.macs:,}",
            bytes_text(check.memory["total"]), *step, by(last.field.size), by(last.output),
        ])  # fmt: skip
    lines = aligned(rows)
    width = max(map(len, lines))
    memory = f"memory of training with batch {first.batch_size}, {first.precision}, {first.optimizer}"
    return "\n".join([lines[0], "-" * width, *lines[1:], "", "layers: those with weights", memory])


def layer_lines(rows: Sequence[Row], depth: int | None = None) -> list[tuple[list[Row], tuple[str, ...]]]:
    """For each line of the table the layers that it is about, and its cells: those of ``HEAD``, then notes.

    With ``depth`` neighbours whose names begin with the same so many parts share a line.
    """
    groups = groupby(rows, lambda row: ".".join(row.name.split(".")[:depth]))
    found = [(name, list(group)) for name, group in groups]
    return [(group, _cells(group[0]) if len(group) == 1 else _folded(name, group)) for name, group in found]


def _folded(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    last = rows[-1]
    params, macs = (f"{n:,}" if n else "" for n in (sum(r.param_count for r in rows), sum(r.macs for r in rows)))
    return (name, f"{len(rows)} layers", by(last.output), f"{last.activation_size:,}", "", "", "", params, macs,
            by(last.field.size), "")  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    f, s, p = ("", "", "") if row.window is None else window_cells(row.window)
    params, macs = (f"{n:,}" if n else "" for n in (row.param_count, row.macs))
    notes = [row.block.outline(row.input)] + (["frozen"] if row.block.frozen and row.params else [])
    notes += [f"reads {row.block.input}"] if row.block.input else []
    sees = by(row.field.size)
    return (row.name, row.type, by(row.output), f"{row.activation_size:,}", f, s, p, params, macs, sees,
            ", ".join(note for note in notes if note))  # fmt: skip


def _wide_cells(check: Check, row: Row) -> tuple[str, ...]:
    jump = [f"{float(n):g}" for n in row.field.spacing]
    offset = [f"{float(half) / 2:g}" for half in row.field.offset]
    return "x".join(dict.fromkeys(jump)), ",".join(dict.fromkeys(offset)), f"{check.activation_bytes(row):,}"


def _versus(fc: int | None, own: int) -> str:
    return "" if fc is None else f"{fc:,} ({fc / own:,.0f}x)"


def by(shape: Shape) -> str:
    """``(28, 28, 6)`` -> ``28x28x6``."""
    return "x".join(map(str, shape))


def window_cells(w: Window) -> tuple[str, str, str]:
    holes = "" if w.dilation == (1, 1) else f" d{short(w.dilation)}"
    top, bottom, left, right = w.pads
    if top == bottom and left == right:
        return f"{short(w.kernel)}{holes}", short(w.stride), short((top, left))
    return f"{short(w.kernel)}{holes}", short(w.stride), ",".join(map(str, w.pads))


def short(size: Pair) -> str:
    """One number where both are equal."""
    return str(size[0]) if size[0] == size[1] else by(size)


def aligned(rows: Sequence[Sequence[str]], left: Collection[str] = LEFT) -> list[str]:
    """Lines with columns of one width each; ``left``: headings, in the first row, of columns that begin alike."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if name in left else ">" for name in rows[0]]
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
    if about := PRECISIONS[check.precision].about:
        yield f"{check.precision}: {about}"


def bytes_text(n: int) -> str:
    """``2,612,224`` -> ``2.5 MiB``."""
    size, units = float(n), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units[:-1]:
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{n} B"
        size /= 1024
    return f"{size:,.1f} {units[-1]}"


def seconds_text(seconds: float) -> str:
    """``0.0123`` -> ``12.3 ms``; from two minutes on, minutes or hours."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
