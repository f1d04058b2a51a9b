"""Each block's arithmetic and texts."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cnnforge.blocks import BLOCKS, AnyBlock, Block, Composite
from cnnforge.errors import ShapeError
from cnnforge.rng import stream
from cnnforge.shapes import count
from cnnforge.spec import ModelSpec
from tests.building import build
from tests.strategies import ANYWHERE, FC, SPATIAL


def block(**fields) -> Block:
    return TypeAdapter(AnyBlock).validate_python(fields)


def conv(**fields) -> Block:
    return block(**{"type": "conv", "filters": 4, "kernel": 3} | fields)


def refused(made: Block, x) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        made.output(x)
    return caught.value


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_says_what_it_does(name):
    assert BLOCKS[name].__doc__
    assert "->" in BLOCKS[name].__doc__ or issubclass(BLOCKS[name], Composite)


@pytest.mark.parametrize("kind", ["conv", "conv_transpose", "pool", "global_pool", "lrn", "spatial_dropout"])
def test_pictures_only(kind):
    kernel = {"filters": 1, "kernel": 1}
    fields = {"conv": kernel, "conv_transpose": kernel, "pool": {"kernel": 1}}.get(kind, {})
    error = refused(block(type=kind, **fields), (120,))
    assert error.what == f"{kind} needs a (height, width, channels) input"
    assert error.why == "fc and flatten give a vector without height and width"
    assert error.fix == f"move this {kind} before the first fc or flatten"


@given(fields=SPATIAL | FC | ANYWHERE, size=st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 2, 4])))
@settings(max_examples=200)
def test_a_block_that_takes_a_shape_says_everything_of_it(fields, size):
    made = block(**fields)
    try:
        y = made.output(size)
    except ShapeError:
        return
    assert all(type(n) is int and n > 0 for n in y)
    assert all(count(p.shape) > 0 and min(p.fan) > 0 for p in made.params(size).values())
    assert isinstance(made.outline(size), str)
    win = made.window(size)
    assert win is None or win.out == y[:2]
    assert made.macs(size) >= 0


class TestConv:
    @given(
        st.tuples(st.integers(3, 9), st.integers(3, 9)), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2),
        st.integers(1, 3), st.sampled_from(["valid", "same", 1]),
    )  # fmt: skip
    def test_macs_are_the_multiplications_of_a_loop(self, size, cg, fg, groups, kernel, padding):
        made = conv(filters=fg * groups, kernel=[kernel, 2], groups=groups, padding=padding)
        x = (*size, cg * groups)
        oh, ow, f = made.output(x)
        loop = itertools.product(range(oh), range(ow), range(f), range(kernel), range(2), range(cg))
        assert made.macs(x) == sum(1 for _ in loop)

    def test_weights(self):
        params = conv(filters=6, kernel=[3, 5], groups=2).params((9, 9, 4))
        assert params["w"].shape == (3, 5, 2, 6)
        assert params["w"].fan == (3 * 5 * 2, 3 * 5 * 3)
        assert params["b"].shape == (6,)
        assert set(conv(bias=False).params((9, 9, 4))) == {"w"}

    @pytest.mark.parametrize(
        ("channels", "filters", "groups", "what", "fix"),
        [
            (
                3,
                4,
                2,
                "3 input channels cannot be divided into 2 groups",
                "groups: 1, or input channels a multiple of 2",
            ),
            (6, 4, 3, "4 filters cannot be divided into 3 groups", "groups: 2, or filters a multiple of 3"),
            (
                4,
                8,
                8,
                "4 input channels cannot be divided into 8 groups",
                "groups: 4, or input channels a multiple of 8",
            ),
        ],
    )
    def test_groups(self, channels, filters, groups, what, fix):
        error = refused(conv(filters=filters, groups=groups), (9, 9, channels))
        assert (error.what, error.fix) == (what, fix)
        assert error.why.endswith("must be 0")

    def test_depthwise_is_one_group_per_input_channel(self):
        made = block(type="conv", kernel=3, groups="depthwise")
        assert made.output((9, 9, 6)) == (7, 7, 6)
        assert {n: p.shape for n, p in made.params((9, 9, 6)).items()} == {"w": (3, 3, 1, 6), "b": (6,)}
        assert made.macs((9, 9, 6)) == 7 * 7 * 6 * 9
        assert made.outline((9, 9, 6)) == "depthwise"
        doubled = conv(filters=12, groups="depthwise")
        assert doubled.params((9, 9, 6))["w"].shape == (3, 3, 1, 12)
        assert doubled.params((9, 9, 6))["w"].fan == (9, 18)

    def test_depthwise_gives_every_channel_as_many_filters(self):
        error = refused(conv(filters=4, groups="depthwise"), (9, 9, 3))
        assert error.what == "4 filters are not the same number for each of 3 input channels"
        assert error.why == "groups: depthwise, and 4 % 3 = 1, must be 0"
        assert error.fix == "filters: 3, or leave filters out for one per channel"

    def test_filters_are_missing_only_without_depthwise(self):
        with pytest.raises(ValidationError) as caught:
            block(type="conv", kernel=3, groups=2, padding=-1)
        assert ("conv", "filters") in {e["loc"] for e in caught.value.errors() if e["type"] == "missing"}
        assert len(caught.value.errors()) > 1  # beside the others, not instead of them
        with pytest.raises(ValidationError, match="filters may be null only with groups: depthwise"):
            block(type="conv", kernel=3, filters=None)
        made = block(type="conv", kernel=3, groups="depthwise")
        assert block(**made.model_dump()) == made

    def test_dilation_widens_the_window(self):
        assert conv(dilation=2).output((9, 9, 1)) == (5, 5, 4)
        assert refused(conv(dilation=4), (8, 8, 1)).why == "8 + 2*0 < 4*(3 - 1) + 1 = 9"

    def test_outline(self):
        made = conv(activation="relu", groups=2, flip=True, bias=False)
        assert made.outline((9, 9, 4)) == "relu, groups 2, flip, no bias"

    @pytest.mark.parametrize(
        ("activation", "init"), [("relu", "he"), ("gelu", "he"), ("none", "glorot"), ("tanh", "glorot")]
    )
    def test_the_initialiser_follows_the_activation(self, activation, init):
        assert conv(activation=activation).params((9, 9, 4))["w"].init.type == init
        assert block(type="fc", units=2, activation=activation).params((9,))["w"].init.type == init
        assert conv(activation=activation, init="zeros").params((9, 9, 4))["w"].init.type == "zeros"


class TestConvTranspose:
    def transposed(self, **fields):
        return block(**{"type": "conv_transpose", "filters": 4, "kernel": 3} | fields)

    def test_output_sizes(self):
        assert self.transposed().output((5, 6, 2)) == (7, 8, 4)
        assert self.transposed(kernel=4, stride=2, padding=1).output((8, 8, 2)) == (16, 16, 4)
        assert self.transposed(stride=2, padding=1, output_padding=1).output((8, 8, 2)) == (16, 16, 4)

    @given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))
    def test_same_gives_the_stride_times_the_size(self, size, stride, kernel, dilation):
        made = self.transposed(kernel=kernel, stride=stride, dilation=dilation, padding="same")
        assert made.output((size, size + 1, 2)) == (size * stride, (size + 1) * stride, 4)

    @given(
        st.integers(3, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2),
        st.sampled_from(["valid", "same", 1, (0, 1, 2, 0)]),
    )  # fmt: skip
    def test_it_undoes_the_sizes_of_a_convolution(self, size, kernel, stride, dilation, padding):
        forward = conv(kernel=kernel, stride=stride, dilation=dilation, padding=padding)
        try:
            small = forward.output((size, size, 3))
        except ShapeError:
            return
        back = self.transposed(kernel=kernel, stride=stride, dilation=dilation, padding=padding)
        big = back.output(small)
        assert forward.output(big)[:2] == small[:2]
        assert 0 <= (big[0] - size if padding == "same" else size - big[0]) < stride

    def test_weights_and_macs(self):
        made = self.transposed(filters=6, kernel=[3, 5], groups=2, stride=2)
        params = made.params((9, 9, 4))
        assert params["w"].shape == (3, 5, 3, 4)  # of the convolution from 6 channels to 4
        assert params["w"].fan == (3 * 5 * 2 // 4, 3 * 5 * 3)
        assert params["b"].shape == (6,)
        assert made.macs((9, 8, 4)) == 3 * 5 * (4 // 2) * 6 * 9 * 8
        assert made.outline((9, 9, 4)) == "groups 2"

    @pytest.mark.parametrize(
        ("fields", "what", "why", "fix"),
        [
            (
                {"stride": 2, "output_padding": [0, 2]},
                "output_padding 2 is too large",
                "it is not below stride 2 or dilation 1",
                "output_padding of at most 1",
            ),
            (
                {"padding": "same", "stride": 2, "output_padding": 1},
                "output_padding has no place beside padding: same",
                "same gives the input's size times the stride, whatever the kernel",
                "leave output_padding out, or say the padding in numbers",
            ),
            (
                {"padding": 3},
                "padding takes away all of a 4x5 output",
                "(2 - 1)*1 + 3 - 3 - 3 < 1",
                "padding of at most 1, or a larger kernel",
            ),
            (
                {"groups": 2, "filters": 3},
                "3 filters cannot be divided into 2 groups",
                "3 % 2 = 1, must be 0",
                "groups: 1, or filters a multiple of 2",
            ),
        ],
    )
    def test_what_cannot_be(self, fields, what, why, fix):
        error = refused(self.transposed(**fields), (2, 3, 2))
        assert (error.what, error.why, error.fix) == (what, why, fix)


class TestPool:
    def test_stride_is_the_kernels_size_where_not_given(self):
        assert block(type="pool", kernel=[2, 3]).output((9, 9, 5)) == (4, 3, 5)
        assert block(type="pool", kernel=2, stride=1).output((9, 9, 5)) == (8, 8, 5)

    def test_ceil_mode(self):
        assert block(type="pool", kernel=2, ceil_mode=True).output((9, 9, 5)) == (5, 5, 5)
        # A window that would begin in the end padding is dropped.
        assert block(type="pool", kernel=2, padding=1, ceil_mode=True).output((3, 3, 1)) == (2, 2, 1)

    @pytest.mark.parametrize("padding", [2, [0, 2, 0, 0], [0, 0, 3, 0]])
    def test_windows_in_the_padding_altogether(self, padding):
        error = refused(block(type="pool", kernel=2, padding=padding), (9, 9, 5))
        assert error.what.startswith("pool padding (")
        assert error.fix == "padding of at most 1, or a larger kernel"

    @given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 6))
    def test_same_padding_is_never_too_wide(self, size, kernel, stride):
        made = block(type="pool", kernel=kernel, stride=stride, padding="same")
        assert made.output((size, size, 1))[0] == -(-size // stride)

    def test_global(self):
        assert block(type="global_pool").output((7, 5, 3)) == (1, 1, 3)
        assert block(type="global_pool").window((7, 5, 3)).kernel == (7, 5)


def test_fc_and_flatten_see_everything_as_a_vector():
    assert block(type="flatten").output((2, 3, 4)) == (24,)
    fc = block(type="fc", units=5)
    assert fc.output((24,)) == (5,)
    assert {n: p.shape for n, p in fc.params((24,)).items()} == {"w": (24, 5), "b": (5,)}
    assert fc.macs((24,)) == 120
    assert fc.is_global()
    assert block(type="fc", units=5, bias=False, activation="elu").outline((24,)) == "elu, no bias"


def test_batch_norm_has_two_weights_and_two_statistics_per_channel():
    made = block(type="batch_norm")
    assert {n: p.shape for n, p in made.params((4, 4, 3)).items()} == {"gamma": (3,), "beta": (3,)}
    assert made.state((7,)) == {"mean": ((7,), 0.0), "var": ((7,), 1.0)}
    assert (made.epsilon, made.momentum) == (1e-5, 0.9)


def test_group_norm_divides_the_channels():
    made = block(type="group_norm")
    assert (made.groups, made.epsilon) == (32, 1e-5)
    assert {n: p.shape for n, p in made.params((4, 4, 64)).items()} == {"gamma": (64,), "beta": (64,)}
    assert made.output((4, 4, 64)) == (4, 4, 64)
    assert made.outline((64,)) == "groups 32"
    error = refused(made, (4, 4, 48))
    assert error.what == "48 channels cannot be divided into 32 groups"
    assert error.why == "48 % 32 = 16, must be 0"
    assert error.fix == "groups: 24, or channels a multiple of 32"


def test_layer_norm_has_two_weights_per_channel():
    made = block(type="layer_norm")
    assert {n: p.shape for n, p in made.params((4, 4, 3)).items()} == {"gamma": (3,), "beta": (3,)}
    assert not made.state((7,))


def test_lrn_has_pytorchs_defaults():
    made = block(type="lrn")
    assert (made.size, made.alpha, made.beta, made.k) == (5, 1e-4, 0.75, 1.0)
    assert made.output((4, 5, 3)) == (4, 5, 3)
    assert made.outline((4, 5, 3)) == "size 5"


class TestDropout:
    """What goes together, and that it is drawn under the block's own name."""

    def dropped(self, kind: str, training: bool = True):
        layers = {"drop": {"type": kind, "rate": 0.5}, "sum": {"type": "fc", "units": 1}}
        spec = ModelSpec.model_validate({"name": "m", "input": [4, 4, 5], "layers": layers, "loss": "mse"})
        graph = build(spec, batch=32, training=training).graph
        nodes = [n for n in graph.nodes if n.op == "dropout"]
        return [n.outs[1].shape for n in nodes], [n.attrs["key"] for n in nodes]

    def test_the_mask_is_as_small_as_what_goes_together(self):
        assert self.dropped("dropout")[0] == [(32, 4, 4, 5)]
        assert self.dropped("spatial_dropout")[0] == [(32, 1, 1, 5)]
        assert self.dropped("drop_path")[0] == [(32, 1, 1, 1)]

    def test_each_has_its_own_stream(self):
        for kind in ("dropout", "spatial_dropout", "drop_path"):
            assert self.dropped(kind)[1] == [stream(0, kind, "drop")]

    def test_nothing_happens_outside_training(self):
        for kind in ("dropout", "spatial_dropout", "drop_path"):
            assert self.dropped(kind, training=False) == ([], [])


class TestActivation:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"function": "relu", "alpha": 0.1}, "alpha belongs to leaky_relu, elu, prelu, not to relu"),
            ({"trainable": False}, "trainable belongs to prelu, not to relu, which has no weights"),
            ({"function": "silu", "approximate": "tanh"}, "approximate belongs to gelu, not to silu"),
        ],
    )
    def test_options_that_belong_elsewhere(self, fields, said):
        with pytest.raises(ValidationError, match=said):
            block(type="activation", **fields)

    def test_prelu_learns_a_slope_per_channel_and_is_a_layer_of_its_own(self):
        made = block(type="activation", function="prelu")
        (alpha,) = made.params((4, 4, 3)).values()
        assert (alpha.shape, alpha.init.value) == ((3,), 0.25)
        assert block(type="activation", function="prelu", alpha=0.5).params((7,))["alpha"].init.value == 0.5
        assert block(type="activation", function="prelu", trainable=False).frozen
        with pytest.raises(ValidationError, match="Input should be 'relu'"):
            conv(activation="prelu")

    def test_defaults(self):
        assert block(type="activation").function == "relu"
        assert block(type="dropout").rate == 0.5
        assert block(type="dropout", rate=0.25).outline((3,)) == "rate 0.25"
