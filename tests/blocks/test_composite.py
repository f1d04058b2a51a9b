"""Composite blocks: how they are laid out, what they refuse, and what one output position sees through them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnnforge.errors import ConfigErrors
from cnnforge.lower import eval_graph
from cnnforge.spec import MODEL_INPUT_ROW, ModelSpec
from tests.building import build

CONV = {"type": "conv", "filters": 4, "kernel": 3, "padding": "same"}
NORM = {"type": "batch_norm"}
FC = {"type": "fc", "units": 3}


def spec(size=(8, 8, 4), **layers) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "input": list(size), "layers": layers})


def residual(*body, **fields):
    return {"type": "residual", "layers": {f"l{i}": block for i, block in enumerate(body, 1)}} | fields


def rows(made: ModelSpec) -> list[tuple[str, str]]:
    return [(row.name, row.type) for row in made.table]


def reads(made: ModelSpec) -> dict[str, list[str]]:
    names = {MODEL_INPUT_ROW: "input"} | {i: row.name for i, row in enumerate(made.table)}
    return {row.name: [names[i] for i in row.reads] for row in made.table}


def mistake(**layers) -> str:
    with pytest.raises(ConfigErrors) as caught:
        _ = spec(**layers).table
    (error,) = caught.value.errors
    return str(error)


class TestResidual:
    def test_identity_where_the_shape_is_kept(self):
        made = spec(a=CONV, r=residual(CONV, NORM), o=FC)
        assert rows(made)[1:4] == [("r.l1", "conv"), ("r.l2", "batch_norm"), ("r", "residual")]
        assert reads(made)["r"] == ["r.l2", "a"]

    def test_a_projection_is_normalised_as_the_body_ends(self):
        made = spec(r=residual(CONV | {"filters": 6, "stride": 2}, NORM | {"epsilon": 0.1, "activation": "relu"}))
        by_name = {row.name: row for row in made.table}
        shortcut, norm = by_name["r.shortcut"].block, by_name["r.shortcut_norm"].block
        assert (shortcut.filters, shortcut.stride, shortcut.bias) == (6, (2, 2), False)
        assert (norm.epsilon, norm.activation) == (0.1, "none")
        assert reads(made)["r"] == ["r.l2", "r.shortcut_norm"]

    def test_a_projection_has_a_bias_where_no_norm_follows(self):
        made = spec(r=residual(CONV | {"filters": 6}))
        assert {row.name: row.block for row in made.table}["r.shortcut"].bias
        assert "r.shortcut_norm" not in dict(rows(made))

    def test_a_norm_at_the_end_of_a_sequence_counts(self):
        body = {"type": "sequence", "layers": {"conv": CONV | {"filters": 6}, "norm": NORM}}
        assert "r.shortcut_norm" in dict(rows(spec(r=residual(body))))

    def test_pad_has_no_weights(self):
        made = spec(r=residual(CONV | {"filters": 6, "stride": 2}, shortcut="pad"))
        assert dict(rows(made))["r.shortcut"] == "shortcut_pad"
        assert dict(rows(spec(r=residual(CONV, shortcut="pad")))).keys() == {"r.l1", "r"}

    def test_vectors_are_projected_by_an_fc(self):
        made = spec(f={"type": "flatten"}, r=residual(FC))
        assert dict(rows(made))["r.shortcut"] == "fc"

    def test_the_projection_makes_way_for_a_layer_of_its_name(self):
        layers = {"shortcut": CONV | {"filters": 6}}
        assert [n for n, _ in rows(spec(r={"type": "residual", "layers": layers}))] == [
            "r.shortcut",
            "r.shortcut_",
            "r",
        ]

    def test_what_does_not_fit(self):
        assert mistake(r=residual(CONV | {"filters": 6}, shortcut="identity")) == (
            "r: the body gives (8, 8, 6), the shortcut (8, 8, 4)\n"
            "  where: model.layers.r, input (8, 8, 6), (8, 8, 4)\n"
            "  why:   a residual block adds the two, so their shapes must be the same\n"
            "  fix:   shortcut: auto, or a body that keeps the shape (padding: same, stride: 1, as many filters)"
        )
        assert mistake(r=residual(CONV | {"padding": "valid"})) == (
            "r: no shortcut leads from (8, 8, 4) to (6, 6, 4)\n"
            "  where: model.layers.r, input (8, 8, 4)\n"
            "  why:   a 1x1 window of any stride gives ceil(size / stride) rows and columns\n"
            "  fix:   padding: same in the body, so that only its strides change height and width"
        )
        assert mistake(r=residual(CONV | {"filters": 2}, shortcut="pad")) == (
            "r: a shortcut of 4 channels cannot be padded to 2\n"
            "  where: model.layers.r, input (8, 8, 4)\n"
            "  why:   padding adds channels and removes none\n"
            "  fix:   shortcut: projection"
        )


class TestBranches:
    def test_an_empty_branch_is_the_input(self):
        made = spec(a=CONV, b={"type": "branches", "branches": {"x": {}, "y": {"c": CONV}}})
        assert reads(made)["b"] == ["a", "b.y.c"]
        assert made.output == (8, 8, 8)

    def test_gates_scale_channels(self):
        gate = {"p": {"type": "global_pool"}, "c": CONV | {"kernel": 1, "activation": "sigmoid"}}
        made = spec(b={"type": "branches", "merge": "multiply", "branches": {"gate": gate, "x": {}}})
        assert made.output == (8, 8, 4)

    @pytest.mark.parametrize(
        ("merge", "filters", "stride", "said"),
        [
            ("concat", 4, 2, "b: concat of different shapes: (8, 8, 4) and (4, 4, 4)"),
            ("add", 6, 1, "b: add of different shapes: (8, 8, 4) and (8, 8, 6)"),
            ("multiply", 6, 1, "b: multiply of different shapes: (8, 8, 4) and (8, 8, 6)"),
        ],
    )
    def test_what_does_not_go_together(self, merge, filters, stride, said):
        branch = {"c": CONV | {"filters": filters, "stride": stride}}
        text = mistake(b={"type": "branches", "merge": merge, "branches": {"x": {}, "y": branch}})
        assert text.splitlines()[0] == said
        assert len(text.splitlines()) == 4

    def test_a_flatten_is_implied_inside_too(self):
        made = spec(b={"type": "branches", "branches": {"x": {"f": FC}, "y": {"f": FC}}})
        assert [name for name, _ in rows(made)] == ["b.x.flatten", "b.x.f", "b.y.flatten", "b.y.f", "b"]
        assert made.output == (6,)


class TestReferences:
    def test_a_layer_reads_another(self):
        made = spec(a=CONV, b=CONV, c=CONV | {"input": "a"}, m={"type": "merge", "inputs": ["b", "c", "input"]})
        assert reads(made)["c"] == ["a"]
        assert reads(made)["m"] == ["b", "c", "input"]

    def test_inner_names_come_before_outer_ones(self):
        inner = {"a": CONV, "b": CONV | {"input": "a"}, "c": CONV | {"input": "z"}}
        made = spec(a=CONV, z=CONV, s={"type": "sequence", "layers": inner}, o=CONV | {"input": "s.b"})
        assert reads(made)["s.b"] == ["s.a"]
        assert reads(made)["s.c"] == ["z"]
        assert reads(made)["o"] == ["s.b"]

    def test_a_composite_is_read_by_its_name(self):
        made = spec(r=residual(CONV), b=CONV, o={"type": "merge", "inputs": ["r", "b"], "mode": "add"})
        assert reads(made)["o"] == ["r", "b"]

    def test_no_such_layer(self):
        assert mistake(a=CONV, c=CONV | {"input": "zz"}, b=CONV) == (
            "c: 'input' names no layer before it: zz\n"
            "  where: model.layers.c.input\n"
            "  why:   before it are input, a\n"
            "  fix:   the name of a layer before it, as the table shows it"
        )
        later = mistake(a=CONV, m={"type": "merge", "inputs": ["a", "later"]}, later=CONV)
        assert later.startswith("m: 'inputs' names no layer before it: later\n  where: model.layers.m.inputs")

    def test_a_network_ends_with_its_last_layer(self):
        text = mistake(a=CONV, b=CONV, s={"type": "sequence", "layers": {}, "input": "a"})
        assert text.startswith("the last layer gives what another layer gave")


def test_lowering_follows_the_rows():
    made = spec(a=CONV, r=residual(CONV | {"filters": 6, "stride": 2}, NORM), o=FC)
    graph = eval_graph(made, 2, "float32")
    assert set(graph.params) == {
        "a.w", "a.b", "r.l1.w", "r.l1.b", "r.l2.gamma", "r.l2.beta", "r.shortcut.w", "r.shortcut_norm.gamma",
        "r.shortcut_norm.beta", "o.w", "o.b",
    }  # fmt: skip
    paths = {node.path for node in graph.nodes}
    assert ("model", "layers", "r", "layers", "l1") in paths


# What one output position sees

axis = st.integers(1, 3)
pads = st.sampled_from(["valid", "same", 1])


@st.composite
def convs(draw, keep=False):
    kernel, stride = [draw(axis), draw(axis)], draw(st.sampled_from([1, 1, 2]))
    return {
        "type": "conv", "filters": 1, "kernel": kernel, "bias": False,
        "stride": 1 if keep else stride,
        "dilation": draw(st.sampled_from([1, 1, 2])),
        "padding": "same" if keep else draw(pads),
    }  # fmt: skip


@st.composite
def pieces(draw):
    kind = draw(st.sampled_from(["conv", "pool", "residual", "branches", "skip"]))
    kept = st.lists(convs(keep=True), min_size=1, max_size=2)
    if kind == "conv":
        return draw(convs())
    if kind == "pool":
        return {"type": "pool", "kernel": draw(st.integers(1, 3)), "stride": draw(st.integers(1, 2)), "padding": "same"}
    if kind == "residual":
        return residual(*draw(kept))
    if kind == "skip":
        return residual(draw(convs(keep=True)) | {"stride": 2})
    ways = draw(st.lists(kept | st.just([]), min_size=1, max_size=3))
    merge = draw(st.sampled_from(["concat", "add"]))
    branches = {f"b{i}": {f"l{j}": c for j, c in enumerate(way)} for i, way in enumerate(ways)}
    made = {"type": "branches", "merge": merge, "branches": branches}
    return made


@settings(max_examples=80, deadline=None)
@given(st.lists(pieces(), min_size=1, max_size=3), st.tuples(st.integers(5, 11), st.integers(5, 11)))
def test_the_receptive_field_is_what_impulses_reach(made, size):
    """With positive weights, an output is not 0 for exactly the input pixels that reach it."""
    model = spec((*size, 1), **{f"p{i}": piece for i, piece in enumerate(made)})
    try:
        field = model.table[-1].field
    except ConfigErrors:
        assume(False)
    built = build(model, batch=size[0] * size[1], training=False)
    for array in built.exe.weights.params.values():
        array[...] = array.ndim == 4  # no biases
    built.bound.x[...] = np.eye(size[0] * size[1]).reshape(-1, *size, 1)
    built.run("forward", "output")
    reached = (built.bound.outputs["output"] != 0).any(axis=-1)  # (pixels, OH, OW)
    for row, column in np.ndindex(reached.shape[1:]):
        pixels = np.argwhere(reached[:, row, column].reshape(size))
        if not len(pixels):
            continue  # an output that sees padding alone
        for ax, position in ((0, row), (1, column)):
            centre = field.offset[ax] + 2 * position * field.jump[ax]  # in half pixels
            first, last = (centre - field.size[ax]) // 2, (centre + field.size[ax]) // 2 - 1
            assert pixels[:, ax].min() >= max(first, 0)
            assert pixels[:, ax].max() <= min(last, size[ax] - 1)
            # Dilation and strides leave holes inside the field, and so may its edges where padding lies.
            if first >= 0 and last < size[ax]:
                assert (pixels[:, ax].min(), pixels[:, ax].max()) == (first, last)
