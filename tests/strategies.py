"""Hypothesis strategies for models: small, of every block, mostly possible."""

from __future__ import annotations

from hypothesis import strategies as st

from cnnforge.blocks.activation import ALPHA, Function
from cnnforge.errors import ConfigErrors
from cnnforge.spec import ModelSpec

FUNCTIONS = [f for f in Function.__args__ if f != "softmax"]
KINKED = ("relu", "relu6", "leaky_relu", "elu", "selu", "prelu", "hard_swish", "hard_sigmoid")
ENDINGS = [*FUNCTIONS, "none"]
PADDINGS = st.sampled_from(["valid", "same", 0, 1, [1, 0, 2, 1]])


def sizes(low: int, high: int):
    """An int or [height, width]."""
    one = st.integers(low, high)
    return one | st.lists(one, min_size=2, max_size=2)


@st.composite
def convs(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, "depthwise"]))
    # One, two or four input channels: 4 filters fit them all.
    filters = {"filters": draw(st.sampled_from([4, None]) if groups == "depthwise" else st.integers(1, 3))}
    if groups == 2:
        filters["filters"] *= 2
    return {
        "type": "conv",
        **filters,
        "kernel": draw(sizes(1, 3)),
        "stride": draw(sizes(1, 2)),
        "padding": draw(PADDINGS),
        "dilation": draw(st.sampled_from([1, 1, 1, 2, [2, 1]])),
        "groups": groups,
        "flip": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(ENDINGS)),
    }


@st.composite
def transposed_convs(draw):
    padding, stride = draw(PADDINGS), draw(st.integers(1, 3))
    return {
        "type": "conv_transpose",
        "filters": draw(st.sampled_from([2, 4])),
        "kernel": draw(sizes(1, 3)),
        "stride": stride,
        "padding": padding,
        "output_padding": 0 if padding == "same" else draw(st.integers(0, stride - 1)),
        "dilation": draw(st.sampled_from([1, 1, 2])),
        "groups": draw(st.sampled_from([1, 1, 2])),
        "flip": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(ENDINGS)),
    }


@st.composite
def pools(draw):
    return {
        "type": "pool",
        "kernel": draw(sizes(2, 3)),
        "stride": draw(st.none() | sizes(1, 3)),
        "padding": draw(st.sampled_from(["valid", "same", 0, 1, [1, 0, 0, 1]])),
        "mode": draw(st.sampled_from(["max", "average"])),
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
    }


@st.composite
def activations(draw):
    function = draw(st.sampled_from([*FUNCTIONS, "prelu", "softmax"]))
    block = {"type": "activation", "function": function}
    if function in ALPHA:
        block["alpha"] = draw(st.sampled_from([0.01, 0.3, 1.5]))
    if function == "gelu":
        block["approximate"] = draw(st.sampled_from(["none", "tanh"]))
    return block


ANYWHERE = (
    activations()
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["dropout", "drop_path"]), "rate": st.sampled_from([0.0, 0.25, 0.5])}
    )
    | st.fixed_dictionaries({"type": st.just("group_norm"), "groups": st.sampled_from([1, 1, 2])})
    | st.just({"type": "layer_norm", "epsilon": 1e-2})
    | st.fixed_dictionaries({"type": st.just("batch_norm"), "epsilon": st.sampled_from([1e-5, 1e-2])})
)
SPATIAL = (
    convs()
    | transposed_convs()
    | pools()
    | st.fixed_dictionaries({"type": st.just("spatial_dropout"), "rate": st.sampled_from([0.0, 0.5])})
    | st.fixed_dictionaries({"type": st.just("lrn"), "size": st.integers(1, 6), "alpha": st.sampled_from([1e-4, 1.0])})
    | ANYWHERE
)
HEADS = st.sampled_from(
    [
        [],
        [{"type": "flatten"}],
        [{"type": "global_pool", "mode": "max"}],
        [{"type": "global_pool", "mode": "average"}],
    ]
)
FC = st.fixed_dictionaries(
    {
        "type": st.just("fc"),
        "units": st.integers(1, 5),
        "bias": st.booleans(),
        "activation": st.sampled_from(ENDINGS),
    }
)
LAST = st.sampled_from(
    [
        {"type": "fc", "units": 3, "activation": "softmax"},
        {"type": "fc", "units": 1, "activation": "sigmoid"},
        {"type": "fc", "units": 2, "activation": "sigmoid"},
        {"type": "fc", "units": 2},
        {"type": "fc", "units": 3, "activation": "tanh"},
    ]
)


def _named(blocks):
    return {f"{block['type']}{i}": block for i, block in enumerate(blocks, start=1)}


@st.composite
def composites(draw):
    """A composite block of a few others, in which shapes may or may not agree."""
    inside = st.lists(SPATIAL, min_size=1, max_size=2)
    kind = draw(st.sampled_from(["sequence", "residual", "branches", "shuffle"]))
    if kind == "shuffle":
        return {"type": "channel_shuffle", "groups": draw(st.integers(1, 2))}
    if kind == "sequence":
        return {"type": "sequence", "layers": _named(draw(inside))}
    activation = draw(st.sampled_from(ENDINGS))
    if kind == "residual":
        shortcut = draw(st.sampled_from(["auto", "auto", "projection", "pad"]))
        return {"type": "residual", "layers": _named(draw(inside)), "shortcut": shortcut, "activation": activation}
    merge = draw(st.sampled_from(["concat", "concat", "add", "multiply"]))
    ways = draw(st.lists(inside, min_size=1, max_size=2))
    branches = {"x": {}} | {f"b{i}": _named(way) for i, way in enumerate(ways)}
    return {"type": "branches", "branches": branches, "merge": merge, "activation": activation}


def _smooth(block) -> None:
    """Take out what has kinks, within composite blocks too."""
    if block.get("activation") in KINKED:
        block["activation"] = "silu"
    if block.get("function") in KINKED:
        block["function"] = "gelu"
        block.pop("alpha", None)
    for layers in (block.get("layers", {}), *block.get("branches", {}).values()):
        for inner in layers.values():
            _smooth(inner)


@st.composite
def models(draw, smooth: bool = False, nested: bool = True) -> ModelSpec:
    """A valid ModelSpec.

    smooth: without kinks and ties, where differences say nothing about gradients
    nested: with composite blocks
    """
    layers = draw(st.lists(SPATIAL | composites() if nested else SPATIAL, max_size=4)) + draw(HEADS)
    layers += [*draw(st.lists(FC | ANYWHERE, max_size=2)), draw(LAST)]
    if smooth:
        for block in layers:
            _smooth(block)
    tree = {
        "name": "made",
        "input": [draw(st.integers(3, 8)), draw(st.integers(3, 8)), draw(st.sampled_from([1, 2, 4]))],
        "layers": _named(layers),
    }
    spec = ModelSpec.model_validate(tree)
    try:
        _ = spec.table
    except ConfigErrors:
        from hypothesis import reject

        reject()
    return spec
