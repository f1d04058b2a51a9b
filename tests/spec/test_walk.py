"""The walk through a model: what it works out, what it finds wrong, and that it says each mistake once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cnnforge.config import read_run, validate
from cnnforge.errors import ConfigErrors
from cnnforge.shapes import UNKNOWN_SIZE
from cnnforge.spec import (
    DigitsData,
    MnistData,
    ModelSpec,
    NpzData,
    RunSpec,
    SyntheticData,
    data_mismatch,
    mistakes,
)
from tests.strategies import models


def spec(size=(8, 8, 2), loss=None, **layers) -> ModelSpec:
    return ModelSpec.model_validate({"name": "m", "input": list(size), "layers": layers, "loss": loss})


def conv(filters=4, kernel=3, **fields):
    return {"type": "conv", "filters": filters, "kernel": kernel} | fields


def fc(units=3, activation="softmax", **fields):
    return {"type": "fc", "units": units, "activation": activation} | fields


POOL = {"type": "pool", "kernel": 2}
DROPOUT = {"type": "dropout"}


def found(*args, **kwargs) -> list[tuple[str, str]]:
    """(layer, what) of every mistake."""
    return [(str(e.path[2]) if len(e.path) > 2 else "", e.what) for e in mistakes(spec(*args, **kwargs))]


def diagnosed(tree) -> tuple:
    """Every mistake of a run's tree, as a user is told them."""
    try:
        validate(read_run(tree), match_data=False)
    except ConfigErrors as found:
        return found.errors
    return ()


class TestTable:
    def test_a_flatten_is_implied_before_the_first_fc_only(self):
        rows = spec(a=conv(), b=fc(5), c=fc()).table
        assert [(r.name, r.type, r.output) for r in rows] == [
            ("a", "conv", (6, 6, 4)),
            ("flatten", "flatten", (144,)),
            ("b", "fc", (5,)),
            ("c", "fc", (3,)),
        ]

    def test_an_explicit_flatten_stays_alone(self):
        assert [r.type for r in spec(a=conv(), f={"type": "flatten"}, b=fc()).table] == ["conv", "flatten", "fc"]

    @pytest.mark.parametrize(
        ("taken", "name"), [(["flatten"], "flatten_"), (["flatten", "flatten_"], "flatten__"), ([], "flatten")]
    )
    def test_the_implied_flatten_takes_a_free_name(self, taken, name):
        rows = spec(**{n: conv(kernel=1) for n in taken}, b=fc()).table
        assert [r.name for r in rows] == [*taken, name, "b"]

    def test_each_row_begins_where_the_one_before_ends(self):
        rows = spec(a=conv(), p=POOL, d=DROPOUT, b=fc()).table
        assert rows[0].input == (8, 8, 2)
        assert all(after.input == before.output for before, after in pairwise(rows))

    def test_a_changed_copy_is_worked_out_anew(self):
        one = spec(a=conv(), b=fc())
        assert one.table[-1].output == (3,)
        other = one.model_copy(update={"layers": spec(a=fc(7)).layers})
        assert other.output == (7,)
        assert one.output == (3,)

    @given(models())
    def test_frozen_weights_count_but_are_not_trained(self, made):
        layers = {
            name: block.model_copy(update={"trainable": False}) if hasattr(block, "trainable") else block
            for name, block in made.layers.items()
        }
        frozen = made.model_copy(update={"layers": layers})
        assert [r.param_count for r in frozen.table] == [r.param_count for r in made.table]
        assert sum(r.trainable_count for r in frozen.table) == 0
        assert all(r.trainable_count == r.param_count for r in made.table)


class TestOneMistakeIsSaidOnce:
    def test_the_models_own_example(self):
        (error,) = mistakes(spec((8, 8, 3), a=conv(6, 5), b=conv(6, 5)))
        assert str(error) == (
            "b: a 5x5 window does not fit a 4x4 input\n"
            "  where: model.layers.b, input (4, 4, 6)\n"
            "  why:   4 + 2*0 < 5\n"
            "  fix:   kernel <= 4, or padding: same, or one pool fewer before it"
        )

    def test_two_mistakes_far_apart_are_both_found(self):
        assert found(a=conv(kernel=9), b=conv(), p=POOL, c=conv(6, groups=4), d=fc(), e=POOL) == [
            ("a", "a: a 9x9 window does not fit a 8x8 input"),
            ("c", "c: 6 filters cannot be divided into 4 groups"),
            ("e", "e: pool needs a (height, width, channels) input"),
        ]

    def test_a_window_that_does_not_fit_is_not_blamed_on_those_behind_it(self):
        many = {f"c{i}": conv(kernel=7, stride=2) for i in range(30)}
        assert [layer for layer, _ in found(a=conv(kernel=9), **many, out=fc())] == ["a"]

    def test_what_stands_behind_it_says_nothing_of_sizes_that_nobody_knows(self):
        for between in ({}, {"p": POOL, "b": conv(6)}, {"f": {"type": "flatten"}, "g": {"type": "flatten"}}):
            errors = mistakes(spec(a=conv(6, 9), **between, c=conv(4, groups=4), d=fc(), e=POOL))
            for error in errors[1:-1]:
                assert "input" not in error.to_dict()["where"], str(error)
                assert not any(len(word) > 6 and word.isdigit() for word in str(error).split())

    def test_channels_are_still_known_behind_a_window_that_does_not_fit(self):
        assert [layer for layer, _ in found(a=conv(6, 9), b=conv(8, groups=4))] == ["a", "b"]
        assert [layer for layer, _ in found(a=conv(8, 9), b=conv(8, groups=4))] == ["a"]

    def test_sizes_are_still_known_behind_a_mistake_that_is_not_about_them(self):
        assert [layer for layer, _ in found(a=conv(3, groups=2), b=conv(kernel=7))] == ["a", "b"]
        assert [layer for layer, _ in found(a=conv(init={"filter": ["vertical"]}), b=conv(kernel=7))] == ["a", "b"]
        assert [layer for layer, _ in found(a=conv(3, groups=2), b=conv(kernel=6))] == ["a"]

    def test_a_global_pool_makes_the_size_known_again(self):
        assert [layer for layer, _ in found(a=conv(kernel=9), g={"type": "global_pool"}, b=conv(kernel=2))] == [
            "a",
            "b",
        ]

    def test_a_wrong_fc_still_gives_a_vector(self):
        assert [layer for layer, _ in found(a=fc(init={"filter": "vertical"}), b=POOL)] == ["a", "b"]

    def test_table_raises_them_all(self):
        with pytest.raises(ConfigErrors) as caught:
            _ = spec(a=conv(kernel=9), c=conv(6, groups=4)).table
        assert len(caught.value.errors) == 2

    def test_no_layers(self):
        (error,) = mistakes(spec())
        assert error.what == "the model has no layers"
        assert error.path == ("model", "layers")

    def test_a_million_groups_are_refused_at_once(self):
        (error,) = mistakes(spec((8, 8, 6), a=conv(4, groups=10**12)))
        assert error.fix == "groups: 2, or input channels a multiple of 1000000000000"

    @given(models(), st.integers(1, 3))
    def test_unknown_sizes_never_show(self, made, kernel):
        """A model behind a first layer that is wrong: whatever else is found, it speaks of known numbers."""
        tree = made.model_dump(exclude_none=True)
        layers = {"wrong": conv(made.input[2], 99, stride=kernel)} | tree["layers"]
        for error in diagnosed({"model": tree | {"layers": layers}}):
            assert str(UNKNOWN_SIZE) not in str(error)
            assert len(max(str(error).split(), key=lambda w: len(w) if w.strip("(),").isdigit() else 0)) < 40


class TestAfter:
    def order(self, **after) -> list[str]:
        return [r.name for r in spec(**{n: DROPOUT | ({"after": a} if a else {}) for n, a in after.items()}).table]

    def test_it_puts_a_layer_behind_another(self):
        assert self.order(a=None, b=None, c="a") == ["a", "c", "b"]

    def test_several_behind_one_keep_their_order(self):
        assert self.order(a=None, z=None, b="a", c="a", d="a") == ["a", "b", "c", "d", "z"]

    def test_one_may_follow_another_that_follows(self):
        assert self.order(c="b", b="a", a=None, z=None) == ["a", "b", "c", "z"]

    @given(st.lists(st.integers(0, 20), min_size=1, max_size=8))
    def test_whatever_follows_whatever_nothing_is_lost_and_all_follow(self, parents):
        names = [f"l{i}" for i in range(len(parents) + 1)]
        after = {names[0]: None} | {names[i + 1]: names[p % (i + 1)] for i, p in enumerate(parents)}
        order = self.order(**after)
        assert sorted(order) == sorted(names)
        assert all(order.index(a) < order.index(n) for n, a in after.items() if a)

    @given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([*"abcdef", "nowhere", None]), min_size=1))
    def test_every_tangle_is_explained_and_none_raises(self, after):
        layers = {n: DROPOUT | ({"after": a} if a else {}) for n, a in after.items()}
        errors = mistakes(spec(**layers))
        roots = {n for n, a in after.items() if a is not None and a not in after}
        blamed = {str(e.path[2]) for e in errors}
        assert roots <= blamed

        def circle(n):
            seen = [n]
            while (a := after.get(seen[-1])) is not None and a not in seen:
                seen.append(a)
            return after.get(seen[-1]) == n

        circles = {n for n in after if circle(n)}
        assert blamed <= roots | circles
        assert bool(circles & blamed) == bool(circles)

    def test_the_texts(self):
        errors = mistakes(spec(a=DROPOUT, b=DROPOUT | {"after": "c"}, c=DROPOUT | {"after": "b"}))
        (error,) = errors
        assert error.what == "b: waits for itself: b after c after b"
        assert error.path == ("model", "layers", "b", "after")
        (error,) = mistakes(spec(conv1=DROPOUT, b=DROPOUT | {"after": "conv_1"}, c=DROPOUT | {"after": "b"}))
        assert error.what == "b: 'after' names no layer: conv_1"
        assert error.fix == "did you mean 'conv1'?"
        assert error.why == "layers are conv1, b, c"
        (error,) = mistakes(spec(a=DROPOUT | {"after": "a"}))
        assert error.what == "a: waits for itself: a after a"


class TestLoss:
    @pytest.mark.parametrize(
        ("ending", "loss"),
        [("softmax", "softmax_cross_entropy"), ("sigmoid", "sigmoid_cross_entropy"), ("none", "mse"), ("relu", "mse")],
    )
    def test_it_follows_the_last_activation(self, ending, loss):
        assert spec(a=fc(3, ending)).effective_loss.type == loss
        if ending != "none":
            separate = {"type": "activation", "function": ending}
            assert spec(a=fc(3, "none"), b=separate).effective_loss.type == loss

    def test_a_stated_loss_wins(self):
        for stated in ("mse", {"type": "mse"}):
            assert spec(loss=stated, a=fc(3, "softmax")).effective_loss.type == "mse"

    def test_only_the_last_layer_counts(self):
        assert spec(a=fc(3, "softmax"), b=fc(3, "none")).effective_loss.type == "mse"
        assert spec(a=fc(3, "softmax"), b=DROPOUT).effective_loss.type == "mse"

    @pytest.mark.parametrize("layers", [{"a": fc(1)}, {"a": conv(1, activation="softmax")}])
    def test_softmax_over_one_unit(self, layers):
        (error,) = mistakes(spec(**layers))
        assert error.what == "a: softmax over one unit is always 1"
        assert error.fix == "activation: sigmoid for one unit, or one unit per class"
        assert mistakes(spec(loss="mse", **layers)) == []


class TestData:
    def said(self, data, loss=None, **layers):
        errors = data_mismatch(spec(loss=loss, **layers), data)
        assert len(errors) <= 1
        return errors[0] if errors else None

    digits, mnist = DigitsData(type="digits"), MnistData(type="mnist")
    npz = NpzData(type="npz", path="x.npz")
    two = SyntheticData(type="synthetic", classes=2)

    def test_what_fits(self):
        assert self.said(self.digits, a=fc(10)) is None
        assert self.said(self.mnist, a=fc(10, "none"), loss="softmax_cross_entropy") is None
        assert self.said(self.two, a=fc(1, "sigmoid")) is None
        assert self.said(self.two, a=fc(2)) is None
        assert self.said(self.npz, a=fc(7, "none")) is None

    def test_the_wrong_number_of_units(self):
        error = self.said(self.mnist, a=conv(), out=fc(12))
        assert error.what == "out: 12 units for 10 classes"
        assert error.why == "data 'mnist' has 10 classes, one output for each"
        assert error.fix == "units: 10"
        assert error.path == ("model", "layers", "out", "units")

    def test_a_picture_where_a_vector_is_wanted(self):
        error = self.said(self.mnist, a=conv(10, activation="softmax"))
        assert error.what == "a: an output of (6, 6, 10) for 10 classes"
        assert error.fix == "end with {type: fc, units: 10}"

    def test_one_yes_or_no_question_for_ten_classes(self):
        error = self.said(self.digits, a=fc(1, "sigmoid"))
        assert error.what == "a: 1 sigmoid unit for 10 classes"
        assert error.fix == "units: 10 with activation: softmax, or data of 2 classes"
        assert self.said(self.two, a=fc(2, "sigmoid")).what == "a: 2 sigmoid units for 2 classes"
        assert self.said(self.two, a=conv(1, activation="sigmoid")).what == "a: an output of (6, 6, 1) for 2 classes"

    def test_class_numbers_are_no_targets(self):
        error = self.said(self.digits, a=fc(10, "none"))
        assert error.what == "a: the loss is mse, and data 'digits' has class numbers for labels"
        assert error.why == "mse compares the output (10) with targets of the same shape"

    @pytest.mark.parametrize(("last", "classes"), [(fc(7), 7), (fc(1, "sigmoid"), 2)])
    def test_an_unknown_number_of_classes_and_that_its_fix_is_one(self, last, classes):
        error = self.said(self.npz, a=last)
        assert error.what == "the number of classes is not known"
        assert error.path == ("data",)
        assert error.fix == f"data.classes: {classes}"
        assert self.said(NpzData(type="npz", path="x", classes=classes), a=last) is None


class TestNumbers:
    """Strict where a guess would be wrong, lenient where the meaning is plain."""

    def optimizer(self, lr):
        tree = {"name": "m", "input": [8, 8, 1], "layers": {"a": fc()}}
        return RunSpec.model_validate({"model": tree, "optimizer": {"type": "sgd", "lr": lr}}).optimizer.lr

    @pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("+.5", 0.5), ("2.", 2.0), ("3", 3.0), (1, 1.0)])
    def test_numbers_that_were_meant(self, text, value):
        assert self.optimizer(text) == value

    @pytest.mark.parametrize(
        "value",
        [True, False, "true", "nan", "inf", float("nan"), float("inf"), "1e999", "", "1 e", "0x1", "1_0", None, []],
    )
    def test_what_is_no_number(self, value):
        with pytest.raises(ValidationError):
            self.optimizer(value)

    @pytest.mark.parametrize("value", [0, -1, "-1e-3", -0.0])
    def test_a_learning_rate_is_above_zero(self, value):
        with pytest.raises(ValidationError):
            self.optimizer(value)

    @pytest.mark.parametrize("value", [5.0, "5", True, None, 0, -3, [1], [1, 2, 3], [1.0, 2], [0, 1], {}])
    def test_sizes_are_whole_numbers_above_zero(self, value):
        with pytest.raises(ValidationError):
            spec(a=conv(kernel=value))

    @pytest.mark.parametrize("value", [-1, [1, 1], [0, 0, 0, -1], [1, 1, 1, 1.0], "full", True, 1.0])
    def test_padding(self, value):
        with pytest.raises(ValidationError):
            spec(a=conv(padding=value))

    @pytest.mark.parametrize("value", [1, 1.0, -0.1, "1", True])
    def test_shares_are_below_one(self, value):
        with pytest.raises(ValidationError):
            spec(a=DROPOUT | {"rate": value})

    @pytest.mark.parametrize("value", [1, 0, "yes", "true", None])
    def test_truth_values(self, value):
        with pytest.raises(ValidationError):
            spec(a=conv(bias=value))

    @pytest.mark.parametrize("name", ["1a", "a.b", "a b", "", "é", "-a", "a\n"])
    def test_names(self, name):
        with pytest.raises(ValidationError):
            spec(**{name: conv()})

    @pytest.mark.parametrize("size", [[8, 8], [8, 8, 1, 1], [8, 8, 0], [8, 8, 1.0], "8", 8])
    def test_the_input(self, size):
        with pytest.raises(ValidationError):
            ModelSpec.model_validate({"name": "m", "input": size, "layers": {"a": conv()}})

    def test_no_other_keys(self):
        with pytest.raises(ValidationError):
            spec(a=conv(colour="red"))

    @pytest.mark.parametrize("init", [{"he": 5}, {"he": {"gain": 2}}, {"zeros": None}, {"constant": "x"}, "hee", {}, 3])
    def test_an_initialiser_says_what_it_knows_and_nothing_else(self, init):
        with pytest.raises(ValidationError):
            spec(a=conv(init=init))


# Whatever is in a config file


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.floats()
    | st.sampled_from(["conv", "same", "1e-3", "", "repeat", "residual", "=x"])
)
texts = st.text(max_size=3)
rubbish = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
keys = ["type", "kernel", "filters", "units", "stride", "padding", "activation", "init", "after", "groups", "function",
        "input", "inputs", "layers", "branches", "times", "block", "first", "shortcut", "merge"]  # fmt: skip


@st.composite
def broken(draw):
    """A run's tree with a few things replaced by anything."""
    tree = draw(models()).model_dump(exclude_none=True)
    tree["input"] = list(tree["input"])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(["input", "layers", "loss", "name", "layer", "field", "field", "field", "extra"]))
        layers = tree.get("layers")
        if at in ("layer", "field", "extra"):
            if not isinstance(layers, dict) or not layers:
                continue
            name = draw(st.sampled_from(sorted(layers, key=str)))
            if at == "layer":
                layers[name] = draw(rubbish)
            elif at == "extra":
                layers[draw(st.integers(0, 3) | texts)] = draw(rubbish)
            elif isinstance(layers[name], dict):
                layers[name][draw(st.sampled_from(keys))] = draw(rubbish)
        else:
            tree[at] = draw(rubbish)
    return {"model": draw(st.just(tree) | rubbish)}


@given(broken())
def test_a_broken_config_is_diagnosed_without_an_exception(tree):
    for error in diagnosed(tree):
        assert error.exit_code == 2
        assert error.what
        assert error.fix
        assert "model" in str(error)


@given(models())
def test_a_sound_model_has_no_mistakes(made):
    assert mistakes(made) == []
    assert diagnosed({"model": made.model_dump(exclude_none=True)}) == ()
