"""Networks to draw: the shipped ones, and small ones whose layers are joined in every way there is."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from cnnforge.config import read_model, validate_model
from cnnforge.report.diagram.structure import Chain, Fold, Frame, Item, Leaf, Parallel, Tangle
from cnnforge.spec import ModelSpec

FOLDER = Path(__file__).parents[3] / "configs" / "model"
ZOO = sorted(file.stem for file in FOLDER.glob("*.yaml"))


@cache
def shipped(name: str) -> ModelSpec:
    return validate_model(read_model(FOLDER / f"{name}.yaml"))


def net(layers: dict[str, Any], **fields: Any) -> ModelSpec:
    return validate_model(read_model({"name": "net", "input": [8, 8, 2], "layers": layers, **fields}))


def conv(filters: int = 4, **fields: Any) -> dict[str, Any]:
    return {"type": "conv", "filters": filters, "kernel": 3, "padding": "same", **fields}


def merge(*names: str, mode: str = "concat", **fields: Any) -> dict[str, Any]:
    return {"type": "merge", "inputs": list(names), "mode": mode, **fields}


def unet() -> ModelSpec:
    """Two steps down and up again, what lies at the same height joined."""
    return net(
        {
            "a": conv(), "down1": {"type": "pool", "kernel": 2}, "b": conv(8), "down2": {"type": "pool", "kernel": 2},
            "c": conv(16), "up2": {"type": "conv_transpose", "filters": 8, "kernel": 2, "stride": 2},
            "join2": merge("b", "up2"), "d": conv(8),
            "up1": {"type": "conv_transpose", "filters": 4, "kernel": 2, "stride": 2},
            "join1": merge("a", "up1"), "e": conv(), "output": conv(2, activation="sigmoid"),
        }
    )  # fmt: skip


def all_to_all() -> ModelSpec:
    """Each layer reads all before it: in no way series and parallel."""
    return net(
        {
            "a": conv(), "b": conv(), "ab": merge("a", "b"), "c": conv(), "abc": merge("a", "b", "c"), "d": conv(),
            "abcd": merge("a", "b", "c", "d"), "output": {"type": "fc", "units": 2},
        }
    )  # fmt: skip


def dead_end() -> ModelSpec:
    """A layer whose output nobody reads."""
    return net({"a": conv(), "unread": conv(), "b": conv(input="a"), "output": {"type": "fc", "units": 2}})


def twice_the_same() -> ModelSpec:
    return net({"a": conv(), "double": merge("a", "a", mode="add", activation="relu"), "b": conv()})


def gated() -> ModelSpec:
    return net(
        {
            "a": conv(), "pool": {"type": "global_pool"}, "gate": conv(kernel=1, activation="sigmoid"),
            "weighed": merge("a", "gate", mode="multiply"), "output": {"type": "fc", "units": 2},
        }
    )  # fmt: skip


def narrow() -> ModelSpec:
    """Boxes narrower than the sizes that stand beside their wires, in several columns."""
    return net({f"a{i}": conv(1000 + i, kernel=1) for i in range(40)}, input=[1000, 1000, 2])


ODD = [unet, all_to_all, dead_end, twice_the_same, gated, narrow]


def sketch(chain: Chain) -> list[Any]:
    """A chain as lists: names of boxes; {ways, join} of what lies beside one another; a count and what is folded."""
    return [_sketch(item) for item in chain]


def _sketch(item: Item) -> Any:
    match item:
        case Leaf():
            return item.name
        case Parallel():
            return [sketch(way) for way in item.ways], item.join.name
        case Tangle():
            return {leaf.name: reads for leaf, reads in zip(item.leaves, item.reads, strict=True)}
        case Fold():
            return len(item.all), sketch(item.chain)
        case Frame():
            return {item.name: sketch(item.chain)}
