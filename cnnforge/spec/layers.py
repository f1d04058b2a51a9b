"""The walk: every layer's shapes, parameters and receptive field, worked out before any array exists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cnnforge.blocks import Block, Flatten
from cnnforge.blocks.base import Param
from cnnforge.errors import ConfigError, Path, ShapeError, suggest
from cnnforge.shapes import UNKNOWN_SIZE, Pair, ReceptiveField, Shape, Window, count

LAYERS: Path = ("model", "layers")


@dataclass(frozen=True, slots=True)
class Row:
    """One layer with everything that is known about it without data. Shapes carry no batch axis.

    macs: multiply-accumulates per sample, of conv and linear only
    field: the receptive field of one output position on the model's input
    """

    name: str
    block: Block
    input: Shape
    output: Shape
    window: Window | None
    params: Mapping[str, Param]
    state: Mapping[str, tuple[Shape, float]]
    macs: int
    field: ReceptiveField

    @property
    def type(self) -> str:
        return self.block.type

    @property
    def activation_size(self) -> int:
        """Numbers in the output of one sample."""
        return count(self.output)

    @property
    def param_count(self) -> int:
        return sum(count(p.shape) for p in self.params.values())

    @property
    def trainable_count(self) -> int:
        return 0 if self.block.frozen else self.param_count


def ending(block: Block) -> str:
    """The activation function that a block's output went through last."""
    return str(getattr(block, "function", None) or getattr(block, "activation", "none"))


def ordered(layers: Mapping[str, Block]) -> tuple[dict[str, Block], list[ConfigError]]:
    """Layers in running order: as written, except that ``after: NAME`` puts a layer behind another."""
    names = [name for name, block in layers.items() if block.after is None]
    errors: list[ConfigError] = []
    waiting = {name: block.after for name, block in layers.items() if block.after is not None}
    while waiting:
        ready = {name: after for name, after in waiting.items() if after in names}
        if not ready:
            errors = [error for name in waiting for error in _misplaced(name, waiting, layers)]
            break
        # Several layers after the same one keep the order in which they were written.
        for name, after in reversed(ready.items()):
            names.insert(names.index(str(after)) + 1, name)
            del waiting[name]
    return {name: layers[name] for name in names}, errors


def _misplaced(name: str, waiting: Mapping[str, str], layers: Mapping[str, Block]) -> list[ConfigError]:
    """Why ``name`` cannot be put behind the layer it names; nothing where that layer's own ``after`` is to blame."""
    chain = [name]
    while (after := waiting.get(chain[-1])) is not None and after not in chain:
        chain.append(after)
    if after == name and name == next(other for other in layers if other in chain):  # a circle is one mistake
        what, fix = "waits for itself: " + " after ".join([*chain, name]), "leave out 'after' of one of them"
    elif len(chain) == 2 and after is None:
        known = [other for other in layers if other != name]
        what, fix = f"'after' names no layer: {chain[1]}", suggest(chain[1], known) or f"one of {', '.join(known)}"
    else:
        return []
    why = "layers are " + ", ".join(layers)
    return [ConfigError(f"{name}: {what}", path=(*LAYERS, name, "after"), why=why, fix=fix)]


def walk(x: Shape, layers: Mapping[str, Block], path: Path = LAYERS) -> tuple[list[Row], list[ConfigError]]:
    """Work out every row from input shape ``x``, going on after a mistake with what is still known.

    After a window that does not fit, height and width count as unknown (so the same mistake is not reported again by
    every later layer) while channels are still checked.
    """
    if not layers:
        why = "a network needs at least one layer"
        return [], [ConfigError("the model has no layers", path=path, why=why, fix="add a conv or fc under layers:")]
    layers, errors = ordered(layers)
    rows: list[Row] = []
    field, size = ReceptiveField(), (x[0], x[1])  # size: height and width that the next fc sees whole
    for name, block in layers.items():
        if block.type == "fc" and len(x) > 1:
            flat = Flatten(type="flatten")
            rows.append(_row(_free("flatten", layers), flat, x, field, size))
            x = _known(flat, x, rows[-1].output)
        try:
            row = _row(name, block, x, field, size)
        except ShapeError as error:
            errors.append(
                ShapeError(
                    f"{name}: {error.what}",
                    path=(*path, name),
                    context=f"input {shown(x)}" if UNKNOWN_SIZE not in x else "",
                    why=error.why,
                    fix=error.fix,
                )
            )
            x = _recovered(block, x)
        else:
            rows.append(row)
            x, field = _known(block, x, row.output), row.field
        size = (x[0], x[1]) if len(x) == 3 else (1, 1) if block.is_global() else size
    return rows, errors


def _row(name: str, block: Block, x: Shape, field: ReceptiveField, size: Pair) -> Row:
    output = block.output(x)
    window = block.window(x)
    params = block.params(x)
    for param in params.values():
        param.init.check(param.shape)
    if window is not None:
        field = field.through(window)
    elif block.is_global():
        field = field.whole(size)
    return Row(name, block, x, output, window, params, block.state(x), block.macs(x), field)


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def shown(x: Shape) -> str:
    return f"({', '.join(map(str, x))})" if len(x) > 1 else f"({x[0]})"


def _recovered(block: Block, x: Shape) -> Shape:
    """The most that can be said of a wrong block's output."""
    if block.is_global():
        return block.output(x)
    if len(x) == 1:
        return x
    channels = getattr(block, "filters", None) or x[-1]
    try:
        window = block.window(x)
    except ShapeError:
        return UNKNOWN_SIZE, UNKNOWN_SIZE, channels
    return *(window.out if window else x[:2]), channels


def _known(block: Block, x: Shape, output: Shape) -> Shape:
    """``output`` as far as it is known: what comes of an unknown height or width is unknown, unless it is 1."""
    if UNKNOWN_SIZE not in x or block.is_global():
        return output
    if len(output) < len(x):
        return (UNKNOWN_SIZE,)
    return tuple(UNKNOWN_SIZE if before == UNKNOWN_SIZE and n > 1 else n for before, n in zip(x, output, strict=True))
