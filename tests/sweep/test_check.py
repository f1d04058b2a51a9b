"""The check of a whole space: which points, why some are dropped, what is a mistake of the sweep itself."""

from pathlib import Path

import pytest

from cnnforge.config import compose, compose_sweep, read_run, validate
from cnnforge.errors import ConfigErrors
from cnnforge.report.check import check
from cnnforge.spec import TrainerSpec
from cnnforge.sweep import check as check_room
from cnnforge.sweep import points
from cnnforge.sweep.check import by_reason, checked
from tests.cores import two_cores

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch, tmp_path_factory):
    """In the checkout, on a machine of two cores that has not been measured."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with two_cores():
        yield


def look(*words, measure=False):
    return checked(compose_sweep(list(words)), measure)


def refused(*words):
    with pytest.raises(ConfigErrors) as caught:
        look(*words)
    return [str(error) for error in caught.value.errors]


def test_five_points_of_lenets_structure_are_impossible():
    found = look("sweep=lenet_structure")
    assert (found.size, len(found.points), len(found.dropped), found.duplicates) == (24, 19, 5, {})
    assert [(point.number, [error.what for error in point.reasons]) for point in found.dropped] == [
        (8, ["pool2: a 2x2 window does not fit a 1x1 input"]),
        (16, ["conv2: a 15x15 window does not fit a 14x14 input"]),
        (22, ["conv2: a 7x7 window does not fit a 6x6 input"]),
        (23, ["conv2: a 9x9 window does not fit a 6x6 input"]),
        (24, ["conv2: a 15x15 window does not fit a 6x6 input"]),
    ]
    assert str(by_reason(found.dropped)[1]) == (
        "point 16: conv2: a 15x15 window does not fit a 14x14 input\n"
        "  where: configs/model/lenet.yaml:8:3 with <override 'model.layers.conv2.kernel=15'> (model.layers.conv2), "
        "input (14, 14, 6)\n  why:   14 + 2*0 < 15\n"
        "  fix:   kernel <= 14, or padding: same, or one pool fewer before it"
    )
    assert dict(found.points[-1].values) == {
        "model.layers.conv1.kernel": 21, "model.layers.conv2.kernel": 5, "model.layers.conv1.filters": 6,
        "optimizer.lr": 3e-3,
    }  # fmt: skip


def test_a_point_is_what_check_and_train_make_of_its_words():
    found = look("sweep=lenet_structure", "trainer.epochs=2")
    for point in found.points:
        own = validate(compose(["trainer.epochs=2", *point.overrides]))
        assert point.spec == own
        report = check(own)
        assert (point.cost.params, point.cost.macs, point.cost.memory) == (
            report.params, report.macs, report.memory["total"],
        )  # fmt: skip
    assert validate(read_run(point.config)) == point.spec


def test_points_are_planned_once_where_they_compute_the_same(monkeypatch):
    planned = []
    real = points.plan_of
    monkeypatch.setattr(points, "plan_of", lambda spec: planned.append(spec) or real(spec))
    found = look("optimizer=sgd,adam", "trainer.batch_size=8,16", "optimizer.lr=0.1,0.2", "seed=1,2", "data=synthetic")
    assert (len(found.points), len(planned)) == (16, 4)
    assert len({point.cost.memory for point in found.points}) == 4


def test_the_same_reason_is_said_once():
    found = look("model.layers.conv1.kernel=5,40", "seed=1,2,3")
    (reason,) = by_reason(found.dropped)
    assert reason.what == "points 4, 5, 6: conv1: a 40x40 window does not fit a 32x32 input"


def test_every_mistake_of_a_point_is_a_reason():
    found = look("model.layers.conv1.kernel=5,40", "optimizer.lr=0.1,-1")
    assert [[error.what for error in point.reasons] for point in found.dropped] == [
        ["optimizer: lr cannot be -1"],
        ["conv1: a 40x40 window does not fit a 32x32 input"],
        ["conv1: a 40x40 window does not fit a 32x32 input", "optimizer: lr cannot be -1"],
    ]


def test_refusing_what_is_infeasible():
    assert refused("seed=1,-2", "sweep.infeasible=error") == [
        "1 of 2 points cannot be trained\n  where: sweep.space\n  why:   infeasible: error\n"
        "  fix:   change the space, or sweep.infeasible=drop leaves them out",
        "point 2: seed cannot be -2\n  where: <override 'seed=-2'> (seed)\n  why:   -2 is below 0\n"
        "  fix:   a whole number of 0 or more; 0 where it is left out",
    ]
    assert len(look("seed=1,2", "sweep.infeasible=error").points) == 2


def test_nothing_is_left():
    assert [text.splitlines()[0] for text in refused("model.layers.conv1.kernel=40,41")] == [
        "no point can be trained",
        "point 1: conv1: a 40x40 window does not fit a 32x32 input",
        "point 2: conv1: a 41x41 window does not fit a 32x32 input",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["optimizer.lrr=0.1,0.01"],
            "sweep.space: optimizer: unknown key 'lrr'\n"
            "  where: <override 'optimizer.lrr=0.1,0.01'> (sweep.space.optimizer.lrr)\n"
            "  why:   adam knows type, lr, weight_decay, decay, clip, groups, betas, epsilon\n"
            "  fix:   did you mean 'lr'?",
        ),
        (
            ["modle=lenet,lenet5"],
            "sweep.space: unknown key 'modle'\n  where: <override 'modle=lenet,lenet5'> (sweep.space.modle)\n"
            "  why:   the config knows model, data, augment, init_from, optimizer, schedule, trainer, tracking, run, "
            "seed, sweep\n  fix:   did you mean 'model'?",
        ),
        (
            ["model=lenet,lenett"],
            "sweep.space: model: there is no 'lenett'\n  where: <override 'model=lenet,lenett'> (sweep.space.model)\n"
            "  why:   model has 35 configs; most like it are lenet, lenet5, lenet4, lenet1, alexnet, googlenet\n"
            "  fix:   did you mean 'lenet'?",
        ),
        (
            ["model.layers.conv9.filters=1,2"],
            "sweep.space: there is no 'conv9' in model.layers\n"
            "  where: <override 'model.layers.conv9.filters=1,2'> (sweep.space.model.layers.conv9.filters)\n"
            "  why:   model.layers holds conv1, pool1, conv2, pool2, fc3, fc4, output\n  fix:   did you mean 'conv2'?",
        ),
        (
            ["seed=1,2", "trainer.epoch=3"],
            "trainer: unknown key 'epoch'\n  where: <override 'trainer.epoch=3'> (trainer.epoch)\n"
            f"  why:   trainer knows {', '.join(TrainerSpec.model_fields)}\n  fix:   did you mean 'epochs'?",
        ),
        (
            ["seed=1,2", "data.validation=0"],
            "there will be no val_loss\n  where: sweep.objective\n  why:   no samples are kept for validation\n"
            "  fix:   data.validation=0.1, or a metric of the test",
        ),
        (
            ["seed=1,2", "model=edge_learner", "data=edges", "sweep.objective={metric: val_accuracy}"],
            "there will be no val_accuracy\n  where: <override 'sweep.objective={metric: val_accuracy}'> "
            "(sweep.objective)\n  why:   mse counts no hits\n  fix:   val_loss",
        ),
        (
            ["optimizer.lr=choice(-1)"],
            "optimizer: lr cannot be -1\n  where: <override 'optimizer.lr=-1'> (optimizer.lr)\n"
            "  why:   -1 is not above 0\n  fix:   a number above 0; 0.001 where it is left out",
        ),
    ],
)
def test_what_is_wrong_with_the_sweep_itself(words, message):
    assert refused(*words) == [message]


def test_a_key_that_some_points_have_is_no_mistake():
    found = look("model=lenet,simple_convnet", "model.layers.conv3.filters=30,40")
    assert ([p.number for p in found.points], [p.number for p in found.dropped]) == ([3, 4], [1, 2])
    assert by_reason(found.dropped)[0].what == "points 1, 2: there is no 'conv3' in model.layers"


def test_the_same_run_is_made_once():
    found = look("optimizer=sgd,momentum", "optimizer.momentum=0.9,0.0")
    assert found.duplicates == {3: 1, 4: 2}
    assert [point.number for point in found.points] == [1, 2]
    assert look("optimizer.lr=1,1.0").duplicates == {2: 1}
    assert look("seed=0,1", "run.name=a,b").duplicates == {}


def test_constraints():
    found = look("model=lenet,lenet1,lenet5", "sweep.constraints.params='<= 10k'")
    assert [point.spec.model.name for point in found.points] == ["lenet1"]
    (reason,) = by_reason(found.dropped)
    assert str(reason) == (
        "points 1, 3: params is not <= 10k\n"
        "  where: <override \"sweep.constraints.params='<= 10k'\"> (sweep.constraints.params)\n"
        "  why:   a constraint of the sweep\n  fix:   a smaller space, or another limit"
    )
    assert found.dropped[0].cost.params == 62_006, "what it costs is still said"
    words = ["model=lenet,lenet1", "sweep.constraints={macs: '>= 600k', memory: '< 8 MiB'}"]
    assert [point.spec.model.name for point in look(*words).points] == ["lenet"]


def test_a_limit_on_the_time_measures_this_machine():
    words = ["model=lenet1", "trainer.max_steps=2,200000", "trainer.epochs=2000", "trainer.backend=numpy"]
    found = look(*words, "trainer.batch_size=8", "sweep.constraints.time='< 1 s'")
    ((short,), (long,)) = found.points, found.dropped
    assert (short.spec.trainer.max_steps, long.spec.trainer.max_steps) == (2, 200_000)
    assert long.cost.seconds == pytest.approx(100_000 * short.cost.seconds)
    assert found.totals.seconds == short.cost.seconds


def test_a_time_that_only_the_data_would_tell():
    words = ["model=lenet1", "data=npz", "data.path=x.npz", "data.classes=10", "trainer.backend=numpy", "seed=1,2"]
    found = look(*words, "trainer.batch_size=8", "sweep.constraints.time='< 1 s'")
    assert found.notes == ("constraints.time: not known of 2 points before their data is read; they are kept",)


def test_a_sampled_space_is_looked_at_by_draws_and_corners():
    found = look("sweep=lr_search")
    assert (found.size, found.points, found.totals.trials) == (None, (), 24)
    values = [dict(probe.values) for probe in found.probes]
    assert len(values) == 112
    assert {"optimizer": "adamw", "optimizer.lr": 1e-4, "optimizer.weight_decay": 1e-6} in values
    assert {
        "optimizer": "nesterov",
        "optimizer.lr": 0.1,
        "optimizer.weight_decay": 0.1,
        "optimizer.momentum": 0.99,
    } in values


def test_the_points_of_a_random_sweep_are_known_before():
    words = ["optimizer.lr=interval(1e-3,1e-1)", "sweep.budget.trials=7", "seed=1,2"]
    found = look(*words)
    assert (len(found.points), found.probes, found.totals.trials) == (7, (), 7)
    again = [dict(point.values) for point in look(*words).points]
    assert [dict(point.values) for point in found.points] == again
    assert [dict(point.values) for point in look(*words, "sweep.sampler={type: random, seed: 1}").points] != again


def test_a_grid_too_large_to_check_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(check_room, "MOST_POINTS", 20)
    found = look("seed=range(0,10)", "trainer.epochs=range(1,11)")
    assert (found.size, len(found.points)) == (100, 20)
    assert found.notes == ("the first 20 of 100 points are run: more are not checked",)
    found = look("seed=range(0,10)", "sweep.budget.trials=3")
    assert found.notes == ("the first 3 of 10 points are run: budget.trials",)


def test_replicas_count():
    totals = look("seed=1,2", "sweep.replicate.folds=3").totals
    assert (totals.trials, totals.runs) == (2, 6)
    totals = look("optimizer.lr=1,2", "sweep.replicate.seeds=[1,2]", "sweep.parallel=2").totals
    one = look("optimizer.lr=1,2").totals
    assert (totals.trials, totals.runs, totals.memory) == (2, 4, 2 * one.memory)
    assert look("seed=1,2", "data.folds=4").totals.runs == 8


def test_a_suggested_point():
    found = look("sweep=lr_search")
    point = found.resolve({"optimizer": "nesterov", "optimizer.lr": 0.05, "optimizer.momentum": 0.7}, 200)
    assert (point.number, point.feasible, point.spec.optimizer.lr) == (200, True, 0.05)
    assert validate(read_run(point.config)) == point.spec
    assert not found.resolve({"optimizer": "nesterov", "optimizer.lr": -1}, 201).feasible
