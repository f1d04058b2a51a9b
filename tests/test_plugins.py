"""Entry points as they are found, and ops that installed packages add. docs/plugins.md is tested in tests/docs."""

import sys
from pathlib import Path

import pytest

from cnnforge import optim, plugins
from cnnforge.backends.numpy.backend import NumpyBackend
from cnnforge.backends.numpy.capabilities import CAPABILITIES
from cnnforge.errors import BackendError, ConfigError
from cnnforge.executable import Executable, Weights
from cnnforge.fields import Spec
from cnnforge.ir.graph import Graph
from cnnforge.ir.op import Op, added_ops
from cnnforge.ir.vjp import backward
from cnnforge.lower import train_graph
from cnnforge.optim.base import Optimizer
from cnnforge.plan import Scratch
from cnnforge.plan.plan import make_plan
from cnnforge.spec import ModelSpec


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch):
    monkeypatch.setattr(plugins, "_BROKEN", {})
    plugins._installed.cache_clear()
    plugins._loaded.cache_clear()
    yield
    plugins._installed.cache_clear()
    plugins._loaded.cache_clear()


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Install a package: ``offer("zoo-1.0.dist-info", entry_points, code)``."""

    def install(folder: str, entry_points: str, code: str = "", site: Path = tmp_path / "site") -> None:
        (site / folder).mkdir(parents=True)
        (site / folder / "entry_points.txt").write_text(entry_points)
        (site / f"{folder.partition('-')[0]}_of_test.py").write_text(code)
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)

    yield install
    for name in [name for name in sys.modules if name.endswith("_of_test")]:
        del sys.modules[name]


def test_entry_points_are_read(offer):
    text = (
        "[console_scripts]\nzoo = zoo:main\n\n"
        "[cnnforge.blocks]\n# a comment\n lion = zoo.cats:Lion [extra]\ntiger=zoo:Tiger\n"
        "[cnnforge.nothing]\nbear = zoo:Bear\n"
    )
    offer("The_Zoo-1.0.dist-info", text)
    found = [(p.group, p.name, p.module, p.attribute, p.package) for p in plugins._installed()]
    assert found == [
        ("cnnforge.blocks", "lion", "zoo.cats", "Lion", "the-zoo"),
        ("cnnforge.blocks", "tiger", "zoo", "Tiger", "the-zoo"),
    ]


def test_the_first_copy_of_a_package_counts(offer, tmp_path):
    offer("zoo-1.0.dist-info", "[cnnforge.blocks]\nold = zoo:Old\n", site=tmp_path / "behind")
    offer("zoo-2.0.dist-info", "[cnnforge.blocks]\nnew = zoo:New\n", site=tmp_path / "before")
    assert [point.name for point in plugins._installed()] == ["new"]


def test_what_is_no_package_is_passed_over(offer, tmp_path, monkeypatch):
    (tmp_path / "site" / "bad-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "bad-1.dist-info" / "entry_points.txt").write_bytes(b"\xff[cnnforge.blocks]")
    (tmp_path / "site" / "none-1.dist-info").mkdir()
    offer("zoo-1.0.dist-info", "[cnnforge.blocks]\nlion = zoo:Lion\nnot a line\n")
    monkeypatch.syspath_prepend(tmp_path / "nowhere")
    assert [point.name for point in plugins._installed()] == ["lion"]


def test_a_package_that_cannot_be_used_is_remembered_with_its_reason(offer):
    offer("zoo-1.0.dist-info", "[cnnforge.blocks]\nlion = zoo_of_test:LION\n", "LION = 3")
    assert plugins.classes(plugins.BLOCKS, Spec, ()) == []
    (error,) = plugins.broken("lion")
    assert str(error) == (
        "'lion' of the installed package zoo cannot be used\n"
        "  where: entry point lion = zoo_of_test:LION in [cnnforge.blocks] of zoo\n"
        "  why:   zoo_of_test:LION is not a subclass of cnnforge.fields.Spec\n"
        "  fix:   another version of zoo, or pip uninstall zoo"
    )
    assert plugins.broken("tiger") == []


def with_strange(g: Graph) -> None:
    """A weight that an op ``strange`` reads, and a loss behind it."""
    x, labels = g.input("x", (3,)), g.input("labels", (3,))
    w = g.param("w", (3, 3), None, True, (3, 3))
    y = g.emit("strange", g.emit("matmul", x, w, out=(3,)), out=(3,))
    loss, hits = g.act("loss", ()), g.act("hits", ())
    g.phase = "loss"
    backward(g, g.node("mse", (y, labels), (loss, hits)))
    g.outputs.update(loss=loss)


def graph() -> Graph:
    g = Graph(2, "float32", training=True, seed=0)
    g.scope = "a"
    return g


OPS = "[cnnforge.ops]\nstrange = zoo_of_test:STRANGE\n"
RULE = "rule=lambda g, n, dys, wants: (g.emit('strange', dys[0], out=(3,)),)"


def test_an_op_needs_a_rule_where_something_learns_before_it(offer):
    offer("zoo-1.0.dist-info", OPS, "from cnnforge.ir.op import Op\nSTRANGE = Op('zoo_of_test:nothing')\n")
    with pytest.raises(ConfigError) as error:
        with_strange(graph())
    assert str(error.value) == (
        "op strange has no backward rule\n"
        "  why:   something before it learns, and its gradient goes through this op\n"
        "  fix:   the package that adds the op needs a rule for it in cnnforge.ops, or trainable: false before it"
    )


def test_an_op_that_cannot_be_imported(offer):
    offer("zoo-1.0.dist-info", OPS, "STRANGE = 3\n")
    with pytest.raises(ConfigError, match="'strange' of the installed package zoo cannot be used") as error:
        with_strange(graph())
    assert error.value.why == "zoo_of_test:STRANGE is not a cnnforge.ir.op.Op"


def test_a_kernel_that_is_not_there(offer):
    offer("zoo-1.0.dist-info", OPS, f"from cnnforge.ir.op import Op\nSTRANGE = Op('zoo_of_test:nothing', {RULE})\n")
    g = graph()
    with_strange(g)
    assert make_plan(g, CAPABILITIES.extended(added_ops(CAPABILITIES.ops))).segments
    with pytest.raises(BackendError) as error:
        NumpyBackend().kernel("strange")
    assert str(error.value) == (
        "the kernel of op strange cannot be used\n"
        "  where: zoo_of_test:nothing, named by an entry point in [cnnforge.ops]\n"
        "  why:   AttributeError: module 'zoo_of_test' has no attribute 'nothing'\n"
        "  fix:   another version of the package that adds the op"
    )


UPDATES = (
    "from cnnforge.ir.op import Op\nfrom cnnforge.optim.base import Optimizer\nfrom typing import Literal\n"
    "class Strange(Optimizer):\n    type: Literal['strange']\n    def attrs(self):\n        return {{}}\n"
    "STRANGE = Op('zoo_of_test:update')\n"
    "def update(ins, outs, scratch{more}):\n    return lambda: ins[0].fill(7)\n"
)
POINTS = "[cnnforge.optimizers]\nstrange = zoo_of_test:Strange\n" + OPS


@pytest.fixture
def strange_optimizer(offer, monkeypatch):
    """Bind an update of an optimizer whose kernel takes ``more``, with these groups; the trained weights."""
    device = NumpyBackend()

    def bound(more: str, **fields):
        offer("zoo-1.0.dist-info", POINTS, UPDATES.format(more=more))
        found = {cls.__name__.lower(): cls for cls in plugins.classes(plugins.OPTIMIZERS, Optimizer, ())}
        monkeypatch.setattr(optim, "OPTIMIZERS", found, raising=False)
        monkeypatch.setattr(device, "capabilities", CAPABILITIES.extended(added_ops(CAPABILITIES.ops)), raising=False)
        rule = found["strange"](type="strange", **fields)
        spec = ModelSpec.model_validate({"name": "t", "input": [1, 1, 3], "layers": {"a": {"type": "fc", "units": 2}}})
        plan = make_plan(train_graph(spec, 2, "float32", 0, rule), device.capabilities)
        exe = Executable(plan, device, Weights(plan, device))
        exe.bound(2).run("update")
        return exe.weights.params

    return bound


def test_a_kernel_without_a_rate_and_a_group_that_sets_one(strange_optimizer):
    with pytest.raises(BackendError) as error:
        strange_optimizer("", groups=[{"match": "a.w", "lr": 0.5}])
    assert str(error.value) == (
        "optimizer strange has one learning rate for all parameters\n"
        "  where: optimizer.groups\n"
        "  why:   a group sets lr, and the optimizer's kernel, zoo_of_test:update, takes no 'rate'\n"
        "  fix:   no lr in optimizer.groups, or a package whose kernel of strange takes rate: float = 1.0"
    )


@pytest.mark.parametrize(
    ("more", "groups"),
    [
        ("", []),
        ("", [{"match": "a.w", "weight_decay": 0.5}]),
        (", *, rate=1.0", [{"match": "a.w", "lr": 0.5}]),
        (", **attrs", [{"match": "a.w", "lr": 0.5}]),
    ],
)
def test_kernels_that_can_do_what_the_groups_ask(strange_optimizer, more, groups):
    params = strange_optimizer(more, groups=groups)
    assert all((p == 7).all() for p in params.values())


def test_an_op_that_nobody_offers():
    g = graph()
    g.outputs.update(y=g.emit("strange", g.input("x", (3,)), out=(3,)))
    with pytest.raises(BackendError) as error:
        make_plan(g, CAPABILITIES)
    assert error.value.what == "backend numpy has no kernel for strange"
    assert error.value.fix == "an entry point in cnnforge.ops from the package that adds it"


def test_capabilities_with_more_ops():
    space = (Scratch((3,), "float32"),)
    added = {"strange": Op("a:b", scratch=lambda ins, outs, attrs: space, inplace=0), "plain": Op("a:c")}
    can = CAPABILITIES.extended(added)
    assert can.ops - CAPABILITIES.ops == {"strange", "plain"}
    assert (can.inplace["strange"], "plain" in can.inplace) == (0, False)
    assert (can.scratch("strange", (), (), {}), can.scratch("plain", (), (), {})) == (space, ())
    assert can.scratch("matmul", (), (), {}) == CAPABILITIES.scratch("matmul", (), (), {})
    assert CAPABILITIES.extended({}) is CAPABILITIES
