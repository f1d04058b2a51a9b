"""The walk: every layer's shapes, parameters and receptive field, worked out before any array exists.

Composite blocks are laid out here: what comes out is a list of rows, each with the rows that it reads, so that nothing
behind the walk knows of nesting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cnnforge.blocks import Block, Composite, Flatten
from cnnforge.blocks.base import Param
from cnnforge.errors import ConfigError, Path, ShapeError, suggest
from cnnforge.shapes import UNKNOWN_SIZE, Pair, ReceptiveField, Shape, Window, count

LAYERS: Path = ("model", "layers")
#: What ``input:`` calls the model's own input, and the number of the row that it would be.
MODEL_INPUT, MODEL_INPUT_ROW = "input", -1


@dataclass(frozen=True, slots=True)
class Row:
    """One layer with everything that is known about it without data. Shapes carry no batch axis.

    name:  as nested: ``stage2.1.conv1``;  path: its place in the config tree
    reads: the rows whose outputs it takes, by number; -1 is the model's input
    inputs: their shapes
    macs:  multiply-accumulates per sample, of conv and linear only
    field: the receptive field of one output position on the model's input
    """

    name: str
    path: Path
    block: Block
    reads: tuple[int, ...]
    inputs: tuple[Shape, ...]
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
    def input(self) -> Shape:
        """The (first) input's shape."""
        return self.inputs[0]

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


def ordered(
    layers: Mapping[str, Block], path: Path = LAYERS, prefix: str = ""
) -> tuple[dict[str, Block], list[ConfigError]]:
    """Layers in running order: as written, except that ``after: NAME`` puts a layer behind another.

    path, prefix: where the layers stand, and what their names begin with
    """
    names = [name for name, block in layers.items() if block.after is None]
    errors: list[ConfigError] = []
    waiting = {name: block.after for name, block in layers.items() if block.after is not None}
    while waiting:
        ready = {name: after for name, after in waiting.items() if after in names}
        if not ready:
            errors = [error for name in waiting for error in _misplaced(name, waiting, layers, path, prefix)]
            break
        # Several layers after the same one keep the order in which they were written.
        for name, after in reversed(ready.items()):
            names.insert(names.index(str(after)) + 1, name)
            del waiting[name]
    return {name: layers[name] for name in names}, errors


def _misplaced(
    name: str, waiting: Mapping[str, str], layers: Mapping[str, Block], path: Path, prefix: str
) -> list[ConfigError]:
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
    return [ConfigError(f"{prefix}{name}: {what}", path=(*path, name, "after"), why=why, fix=fix)]


def walk(
    x: Shape, layers: Mapping[str, Block], path: Path = LAYERS, unknown: Collection[Path] = ()
) -> tuple[list[Row], list[ConfigError]]:
    """Work out every row from input shape ``x``, going on after a mistake with what is still known.

    After a window that does not fit, height and width count as unknown (so the same mistake is not reported again by
    every later layer) while channels are still checked. ``unknown``: layers whose sizes are not known, because their
    fields are wrong.
    """
    if not layers:
        why = "a network needs at least one layer"
        return [], [ConfigError("the model has no layers", path=path, why=why, fix="add a conv or fc under layers:")]
    run = _Walk(frozenset(unknown))
    start = _Output(MODEL_INPUT_ROW, x, ReceptiveField(), (x[0], x[1]))
    run.outputs[MODEL_INPUT] = start
    last = run.layers(layers, start, "", path)
    if not run.errors and not run.unknown and (not run.rows or last.row != len(run.rows) - 1):
        run.errors.append(_no_end(path, last, run.rows))
    return run.rows, run.errors


def _no_end(path: Path, last: _Output, rows: list[Row]) -> ConfigError:
    what = "the last layer gives what another layer gave" if rows else "the model has no layers"
    end = rows[last.row].name if last.row >= 0 else "the input"
    return ConfigError(
        what,
        path=path,
        why=f"the network's output is that of {end}, which adds nothing to it",
        fix="add a conv or fc behind it",
    )


@dataclass(frozen=True, slots=True)
class _Output:
    """What a layer gives: the number of its row, its shape, what one position sees, and the height and width that an
    fc behind it sees whole.
    """

    row: int
    shape: Shape
    field: ReceptiveField
    size: Pair


@dataclass
class _Walk:
    """Rows under construction.

    outputs: what every layer gives, by its whole name;  taken: the names that are or will be used
    hidden: the names of layers of which too little is known to say what is inside
    """

    unknown: frozenset[Path]
    rows: list[Row] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    outputs: dict[str, _Output] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)

    def layers(self, layers: Mapping[str, Block], x: _Output, prefix: str, path: Path) -> _Output:
        """Lay out ``layers`` behind ``x``. ``prefix``: what their names begin with, its dot included."""
        self.taken.update(prefix + name for name in layers)
        layers, errors = ordered(layers, path, prefix)
        self.errors += errors
        for name, block in layers.items():
            whole, here = f"{prefix}{name}", (*path, name)
            try:
                sources = tuple(self._source(reference, prefix, x) for reference in block.reads())
            except _NoSuchLayer as missing:
                self.errors.append(missing.error(whole, here, self.outputs, block, prefix))
                sources = (x,)
                if len(block.reads()) > 1:
                    x = self.outputs[whole] = _unknown(x)
                    continue
            x = self.outputs[whole] = self._block(block, whole, here, sources)
        return x

    def _source(self, reference: str | None, prefix: str, x: _Output) -> _Output:
        """What ``reference`` names, looked for beside the layer first, then further out; ``x`` where it is None."""
        if reference is None:
            return x
        around = prefix
        while True:
            if (found := self.outputs.get(around + reference)) is not None:
                return found
            if any((around + reference).startswith(f"{name}.") for name in self.hidden):
                return _unknown(x)
            if not around:
                raise _NoSuchLayer(reference)
            around = around[: around.rstrip(".").rfind(".") + 1]

    def _block(self, block: Block, name: str, path: Path, xs: tuple[_Output, ...]) -> _Output:
        if path in self.unknown:
            self.hidden.add(name)
            if isinstance(block, Composite):  # its layers are known, though not how it joins them
                known = len(self.errors)
                self._composite(block, name, path, xs[0])
                self.errors[known:] = [error for error in self.errors[known:] if error.path != path]
            return _unknown(xs[0], getattr(block, "filters", None) or UNKNOWN_SIZE)
        if isinstance(block, Composite):
            return self._composite(block, name, path, xs[0])
        x = xs[0]
        if block.type == "fc" and len(x.shape) > 1:
            flat = Flatten(type="flatten")
            beside = name.rpartition(".")
            x = self._leaf(flat, self._free(f"{beside[0]}{beside[1]}flatten"), path, (x,))
            xs = (x,)
        return self._leaf(block, name, path, xs)

    def _composite(self, block: Composite, name: str, path: Path, x: _Output) -> _Output:
        try:
            return block.arrange(_Arrangement(self, block, name, path), x)
        except ShapeError as error:
            self.errors.append(_named(error, name, path, (x.shape,)))
            return _unknown(x)

    def _leaf(self, block: Block, name: str, path: Path, xs: tuple[_Output, ...]) -> _Output:
        """One row; what is still known of its output where it is wrong."""
        shapes = tuple(x.shape for x in xs)
        size = xs[0].size
        try:
            row = self._row(name, path, block, xs)
        except ShapeError as error:
            # Of channels that nobody knows, nothing can be wrong.
            if UNKNOWN_SIZE not in (shape[-1] for shape in shapes):
                self.errors.append(_named(error, name, path, shapes))
            shape, field = _recovered(block, shapes), xs[0].field
        else:
            self.rows.append(row)
            shape, field = _known(block, shapes[0], row.output), row.field
        self.taken.add(name)
        size = (shape[0], shape[1]) if len(shape) == 3 else (1, 1) if block.is_global() else size
        return _Output(len(self.rows) - 1, shape, field, size)

    def _row(self, name: str, path: Path, block: Block, xs: tuple[_Output, ...]) -> Row:
        shapes = tuple(x.shape for x in xs)
        output = block.output(*shapes)
        window = block.window(*shapes[:1])
        params = block.params(*shapes[:1])
        for param in params.values():
            param.init.check(param.shape)
        sees = _joined(xs, output)
        if window is not None:
            sees = sees.through(window)
        elif block.is_global():
            sees = sees.whole(xs[0].size)
        state, macs = block.state(*shapes[:1]), block.macs(*shapes[:1])
        reads = tuple(x.row for x in xs)
        return Row(name, path, block, reads, shapes, output, window, params, state, macs, sees)

    def _free(self, name: str) -> str:
        """``name``, with an underscore where a layer has it."""
        while name in self.taken:
            name += "_"
        return name


@dataclass(frozen=True, slots=True)
class _Arrangement:
    """What a composite block sees of the walk."""

    walk: _Walk
    block: Composite
    name: str
    path: Path

    def layers(self, layers: Mapping[str, Block], x: _Output, *inside: str) -> _Output:
        # ``branches.left``: the name of a branch is part of its layers' names, the field's own name is not.
        prefix = ".".join((self.name, *inside[1:])) + "."
        return self.walk.layers(layers, x, prefix, (*self.path, *inside))

    def layer(self, name: str, block: Block, x: _Output) -> _Output:
        return self.walk._leaf(block, self.walk._free(f"{self.name}.{name}"), self.path, (x,))

    def whole(self, *xs: _Output) -> _Output:
        return self.walk._leaf(self.block, self.name, self.path, xs)


class _NoSuchLayer(Exception):
    def __init__(self, reference: str) -> None:
        super().__init__(reference)
        self.reference = reference

    def error(self, name: str, path: Path, known: Collection[str], block: Block, prefix: str) -> ConfigError:
        """``known``: what there is before the layer ``name``."""
        near = [other.removeprefix(prefix) for other in known]
        at = "input" if block.input is not None else "inputs"
        return ConfigError(
            f"{name}: '{at}' names no layer before it: {self.reference}",
            path=(*path, at),
            why=f"before it are {', '.join(near[-12:])}" + (" (the last twelve)" if len(near) > 12 else ""),
            fix=suggest(self.reference, near) or "the name of a layer before it, as the table shows it",
        )


def _named(error: ShapeError, name: str, path: Path, shapes: tuple[Shape, ...]) -> ShapeError:
    """``error`` as the mistake of the layer ``name``."""
    known = all(UNKNOWN_SIZE not in shape for shape in shapes)
    context = f"input {', '.join(shown(shape) for shape in shapes)}" if known else ""
    return ShapeError(f"{name}: {error.what}", path=path, context=context, why=error.why, fix=error.fix)


def _unknown(x: _Output, channels: int = UNKNOWN_SIZE) -> _Output:
    """Behind a layer of whose output nothing is known but, perhaps, its channels."""
    return _Output(x.row, (UNKNOWN_SIZE, UNKNOWN_SIZE, channels), x.field, (UNKNOWN_SIZE, UNKNOWN_SIZE))


def _joined(xs: tuple[_Output, ...], output: Shape) -> ReceptiveField:
    """What one position of several outputs together sees; neighbours are as far apart as in those of full size."""
    full = next((x for x in xs if x.shape[:-1] == output[:-1]), xs[0])
    return full.field.joined(tuple(x.field for x in xs if x is not full))


def shown(x: Shape) -> str:
    return f"({', '.join(map(str, x))})" if len(x) > 1 else f"({x[0]})"


def _recovered(block: Block, xs: tuple[Shape, ...]) -> Shape:
    """The most that can be said of a wrong block's output."""
    if len(xs) > 1:
        return (UNKNOWN_SIZE,) * 3
    (x,) = xs
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
    """``output`` as far as it is known: what comes of an unknown height or width is unknown, unless it is 1.

    Channels are the block's own, or as unknown as they came.
    """
    if UNKNOWN_SIZE not in x or block.is_global():
        return output
    if len(output) < len(x):
        return (UNKNOWN_SIZE,)
    sizes = zip(x[:-1], output[:-1], strict=True)
    return *(UNKNOWN_SIZE if before == UNKNOWN_SIZE and n > 1 else n for before, n in sizes), output[-1]
