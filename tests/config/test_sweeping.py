"""A sweep's config: Hydra's grammar for several values, axes over a file's space, and what points share."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnforge.config import beyond, compose_sweep
from cnnforge.config.overrides import parse, written
from cnnforge.errors import ConfigErrors


def axis(text, *more):
    """The one axis that an override makes, as (key, its fields that are not left out)."""
    spec = compose_sweep([text, *more]).spec
    ((key, found),) = spec.space.items()
    return key, found.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("text", "key", "fields"),
    [
        ("optimizer.lr=0.1,0.01", "optimizer.lr", {"choices": (0.1, 0.01)}),
        ("model=lenet,lenet5", "model", {"choices": ("lenet", "lenet5")}),
        ("seed=choice(1,2)", "seed", {"choices": (1, 2)}),
        ("seed=choice(7)", "seed", {"choices": (7,)}),
        ("seed=range(1,4)", "seed", {"choices": (1, 2, 3)}),
        ("seed=range(3)", "seed", {"choices": (0, 1, 2)}),
        ("optimizer.lr=range(0.1,0.5,0.1)", "optimizer.lr", {"choices": (0.1, 0.2, 0.3, 0.4)}),
        ("seed=sort(3,1,2)", "seed", {"choices": (1, 2, 3)}),
        ("seed=sort(3,1,2,reverse=true)", "seed", {"choices": (3, 2, 1)}),
        ("seed=sort(range(5,1,-1))", "seed", {"choices": (2, 3, 4, 5)}),
        ("model=glob(lenet*)", "model", {"choices": ("lenet", "lenet1", "lenet4", "lenet5")}),
        ("model=glob(lenet*,exclude=lenet1)", "model", {"choices": ("lenet", "lenet4", "lenet5")}),
        ("model=glob([vgg1*_bn,lenet1])", "model", {"choices": ("lenet1", "vgg11_bn", "vgg16_bn", "vgg19_bn")}),
        ("model.layers.conv1.kernel=[3,5],[5,3]", "model.layers.conv1.kernel", {"choices": ([3, 5], [5, 3])}),
        ("run.name='a b','c,d'", "run.name", {"choices": ("a b", "c,d")}),
        ("optimizer.lr=float(1,2)", "optimizer.lr", {"choices": (1.0, 2.0)}),
        ("data.limit=null,100", "data.limit", {"choices": (None, 100)}),
        ("+model.layers.d={type: dropout},{type: flatten}", "+model.layers.d",
         {"choices": ({"type": "dropout"}, {"type": "flatten"})}),
        ("++optimizer.lr=1,2", "++optimizer.lr", {"choices": (1, 2)}),
    ],
)  # fmt: skip
def test_lists(text, key, fields):
    assert axis(text) == (key, fields)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("optimizer.lr=interval(0.1,0.5)", {"low": 0.1, "high": 0.5}),
        ("optimizer.lr=interval(1,5)", {"low": 1.0, "high": 5.0}),
        ("optimizer.lr=tag(log,interval(1e-4,1e-1))", {"low": 1e-4, "high": 0.1, "log": True}),
        ("optimizer.lr=int(interval(1,5))", {"low": 1, "high": 5}),
        ("optimizer.lr=tag(log,int,interval(1,8))", {"low": 1, "high": 8, "log": True}),
    ],
)
def test_intervals(text, fields):
    key, found = axis(text, "sweep.budget.trials=3")
    assert (key, found) == ("optimizer.lr", fields)
    assert [type(found["low"]), type(found["high"])] == [type(fields["low"]), type(fields["high"])]
    assert compose_sweep([text, "sweep.budget.trials=3"]).spec.chooses.type == (
        "grid" if isinstance(fields["low"], int) else "random"
    )


def test_shuffled_in_the_same_order_each_time():
    orders = {axis("seed=shuffle(range(0,20))")[1]["choices"] for _ in range(3)}
    (order,) = orders
    assert sorted(order) == list(range(20))
    assert list(order) != sorted(order)
    assert axis("trainer.epochs=shuffle(range(1,21))")[1]["choices"] != tuple(n + 1 for n in order)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seed=range(3",
            "'seed=range(3' cannot be read\n  where: <override 'seed=range(3'>\n"
            "  why:   no viable alternative at input 'range(3'\n"
            "  fix:   a,b,c, range(1,4), choice(a,b), interval(0.1,1) or glob(*), each with its brackets closed",
        ),
        (
            "seed=range(0,100000)",
            "'seed=range(0,100000)' cannot be read\n  where: <override 'seed=range(0,100000)'>\n"
            "  why:   it has more than 10,000 values\n"
            "  fix:   a,b,c, range(1,4), choice(a,b), interval(0.1,1) or glob(*), each with its brackets closed",
        ),
        (
            "seed=range(0,3,0)",
            "'seed=range(0,3,0)' cannot be read\n  where: <override 'seed=range(0,3,0)'>\n"
            "  why:   range() arg 3 must not be zero\n"
            "  fix:   a,b,c, range(1,4), choice(a,b), interval(0.1,1) or glob(*), each with its brackets closed",
        ),
        (
            "~seed=1,2",
            "'~seed=1,2' cannot be read\n  where: <override '~seed=1,2'>\n"
            "  why:   a removal has no values to choose from\n  fix:   ~seed",
        ),
        (
            "model=glob(x*)",
            "'model=glob(x*)' matches nothing\n  where: <override 'model=glob(x*)'>\n"
            "  why:   the configs of model are alexnet, cat_detector, cifar_resnet9, densenet121, edge_detector, "
            "edge_learner, efficientnet_b0, fast_cifar, googlenet, lenet, lenet1, lenet4 and 23 more\n"
            "  fix:   glob(*) takes all configs of a group",
        ),
        (
            "seed=glob(*)",
            "'seed=glob(*)' matches nothing\n  where: <override 'seed=glob(*)'>\n  why:   seed is not a group\n"
            "  fix:   choice(a,b) for values",
        ),
        (
            "optimizer.lr=interval(0.2,0.1)",
            "sweep.space.optimizer.lr: low 0.2 is not below high 0.1\n"
            "  where: <override 'optimizer.lr=interval(0.2,0.1)'> (sweep.space.optimizer.lr.low)\n"
            "  why:   there is nothing between them\n  fix:   low: 0.1, high: 0.2",
        ),
        (
            "seed=range(3,1)",
            "sweep.space.seed: there are no choices\n"
            "  where: <override 'seed=range(3,1)'> (sweep.space.seed.choices)\n"
            "  why:   an axis has at least one value\n  fix:   […]",
        ),
        (
            "seed=3",
            "nothing varies: the sweep has no axes\n  where: sweep.space\n"
            "  why:   a sweep is a run for each of several values\n"
            "  fix:   sweep=NAME of configs/sweep, or several values: optimizer.lr=0.1,0.01",
        ),
        (
            "sweep=lenet_strukture",
            "sweep: there is no 'lenet_strukture'\n  where: <override 'sweep=lenet_strukture'> (sweep)\n"
            "  why:   the configs of sweep are lenet_structure, lr_search, under_100k\n"
            "  fix:   did you mean 'lenet_structure'?",
        ),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(ConfigErrors) as caught:
        compose_sweep([text])
    assert [str(error) for error in caught.value.errors] == [message]


def test_a_sweep_at_another_place_is_refused():
    with pytest.raises(beyond.Refused, match="'@other' is not part of the language"):
        beyond.swept("model@other=lenet,lenet5")


FILE = """name: mine
space:
  optimizer: [adam, sgd]
  optimizer.lr: {low: 0.1, high: 0.2, step: 0.05, when: {optimizer: sgd}}
  seed: [0, 1]
"""


def test_what_the_command_line_says_counts(write):
    write("sweep/mine.yaml", FILE)
    sweep = compose_sweep(["sweep=mine", "optimizer.lr=1,2", "seed=7", "trainer.epochs=3", "data.limit=10,20"])
    assert {key: axis.choices for key, axis in sweep.spec.space.items()} == {
        "optimizer": ("adam", "sgd"), "optimizer.lr": (1, 2), "seed": (7,), "data.limit": (10, 20),
    }  # fmt: skip
    assert sweep.spec.space["optimizer.lr"].when == {"optimizer": ("sgd",)}, "its condition stays"
    assert sweep.base == ("sweep=mine", "trainer.epochs=3"), "an axis of one value is none of the base"
    assert sweep.where("space", "optimizer") == "configs/sweep/mine.yaml:3:3 (sweep.space.optimizer)"
    assert sweep.where("space", "seed") == "<override 'seed=7'> (sweep.space.seed)"


def test_the_run_at_a_point(write):
    write("sweep/mine.yaml", FILE)
    sweep = compose_sweep(["sweep=mine", "trainer.epochs=3", "model=lenet5"])
    run = sweep.run({"optimizer": "sgd", "optimizer.lr": 0.15, "seed": 1})
    assert (run.optimizer.type, run.optimizer.lr, run.seed, run.trainer.epochs) == ("sgd", 0.15, 1, 3)
    assert (run.model.name, run.sweep) == ("lenet5", None)
    with pytest.raises(ConfigErrors) as caught:
        sweep.run({"optimizer": "sgd", "optimizer.lr": -1})
    assert str(caught.value).startswith("optimizer: lr cannot be -1\n  where: <override 'optimizer.lr=-1'>")


def test_folds_are_the_same_at_every_point():
    sweep = compose_sweep(["seed=1,2", "sweep.replicate.folds=3"])
    assert sweep.run({"seed": 1}).data.folds == 3


def test_an_experiment_may_bring_a_sweep(write):
    write("sweep/mine.yaml", FILE)
    write("experiment/e.yaml", "# @package _global_\ndefaults:\n  - override /sweep: mine\ntrainer: {epochs: 1}\n")
    sweep = compose_sweep(["experiment=e"])
    assert (sweep.spec.name, sweep.run({"seed": 0}).trainer.epochs) == ("mine", 1)


SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(alphabet=string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", ""), max_size=12)
KEYS = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=5).filter(
    lambda k: k not in ("null", "true", "nan", "inf")
)
VALUES = st.recursive(
    SCALARS | TEXTS.filter(lambda t: "$" not in t),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


@given(VALUES)
@example("a\\'b")
@example("\\\\")
@example("\\\\'")
@example("'a', \"b\"")
@example(["1e-3", "null", "12", "-", "a: b", ""])
def test_a_value_is_read_back_as_it_was_written(value):
    (override,), errors = parse([written("run.name", value)])
    assert errors == []
    assert override.value == value
    assert type(override.value) is type(value)
