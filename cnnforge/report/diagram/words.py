"""What a picture says of a layer: a headline such as ``3x3 conv 64, s 2``, and what else happens to its output."""

from __future__ import annotations

from collections.abc import Iterator

from cnnforge.report.table import by, short, window_cells
from cnnforge.spec import Row

#: What is called otherwise than in YAML. All other types are their own names.
_NAMES = {
    "conv_transpose": "transposed conv",
    "global_pool": "global pool",
    "channel_shuffle": "channel shuffle",
}
#: How joins are written that are not written out.
SIGNS = {"add": "+", "multiply": "×"}
#: Layers whose ``outline`` says only what has no place in a picture, or what differs from one repetition to the next.
_SILENT = frozenset({"drop_path", "lrn", "channel_shuffle"})


def headline(row: Row) -> str:
    """The layer in a few words, its stride only where it is not the usual one."""
    stride = stride_of(row)
    return operation(row) + (f", s {stride}" if stride else "")


def operation(row: Row) -> str:
    """``3x3 conv 64``, ``2x2 max pool``, ``fc 10``: everything but the stride."""
    if mode := join_mode(row):
        return SIGNS.get(mode, mode)
    if row.type == "shortcut_pad":
        return f"zeros up to {row.output[-1]}"
    if row.type == "activation":
        return str(getattr(row.block, "function", row.type))
    name = _NAMES.get(row.type, row.type)
    if row.type in ("pool", "global_pool"):
        name = {"pool": "{} pool", "global_pool": "global {} pool"}[row.type].format(getattr(row.block, "mode", "max"))
    parts = [by(row.window.kernel)] if row.window is not None and row.type != "global_pool" else []
    parts += [*_groups(row), name]
    if row.macs and row.params:
        parts.append(str(row.output[-1]))
    return " ".join(parts)


def stride_of(row: Row) -> str:
    """``2`` or ``2x1``; an empty string where it is 1, or a pool's own size as usual."""
    if row.type == "shortcut_pad":
        stride = getattr(row.block, "stride", (1, 1))
    elif row.window is None or row.type == "global_pool":
        return ""
    else:
        stride = row.window.stride
    usual = row.window.kernel if row.window is not None and row.type == "pool" else (1, 1)
    return "" if stride == usual else short(stride)


def window_text(row: Row) -> str:
    """``s 1, p 0``: how the window moves; empty without a window."""
    if row.window is None or row.type == "global_pool":
        return ""
    _, stride, padding = window_cells(row.window)
    return f"s {stride}, p {padding}"


def endings(row: Row) -> tuple[str, ...]:
    """What the layer does to its result in the end, and what else is unusual about it."""
    if row.type in _SILENT:
        return ()
    said = {operation(row), "no bias", *_groups(row), getattr(row.block, "mode", ""), join_mode(row)}
    notes = [part for part in row.block.outline(row.input).split(", ") if part and part not in said]
    if getattr(row.block, "inputs", None):  # a merge's outline names what it reads, which the picture shows
        notes = [part for part in (str(getattr(row.block, "activation", "none")),) if part != "none"]
    if row.window is not None and row.window.dilation != (1, 1):
        notes.append(f"dilation {short(row.window.dilation)}")
    return (*notes, *(["frozen"] if row.block.frozen and row.params else []))


def join_mode(row: Row) -> str:
    """``add``, ``multiply`` or ``concat`` where a row joins several; an empty string elsewhere."""
    if row.type == "residual":
        return "add"
    if row.type in ("branches", "merge"):
        return str(getattr(row.block, "merge" if row.type == "branches" else "mode"))
    return row.type if len(row.reads) > 1 else ""


def aside(row: Row) -> str:
    """A layer that keeps its input's shape, within the box of another: ``batch_norm, relu``."""
    if row.type == "flatten" or (join_mode(row) and len(row.reads) > 1):
        return operation(row)
    name = "" if join_mode(row) else operation(row)
    return ", ".join(part for part in (name, *endings(row)) if part)


def _groups(row: Row) -> Iterator[str]:
    groups = getattr(row.block, "groups", 1)
    if groups == "depthwise" or (row.macs and groups == row.input[-1] == row.output[-1] != 1):
        yield "depthwise"
