"""What a sweep's config says, and the exact words where its parts do not go together."""

from collections.abc import Callable

import pytest

from cnnforge.config import compose_sweep, read_run, validate
from cnnforge.errors import ConfigErrors
from cnnforge.spec import SweepSpec
from cnnforge.spec.sweep import Objective

MODEL = "model: {name: m, input: [8, 8, 1], layers: {a: {type: flatten}}}\n"


def errors(text: str) -> list[str]:
    """What is wrong with a ``sweep:`` section, whose lines begin at 3."""
    indented = "".join(f"  {line}\n" for line in text.splitlines())
    try:
        validate(read_run(f"{MODEL}sweep:\n{indented}"), match_data=False)
    except ConfigErrors as found:
        return [str(error) for error in found.errors]
    return []


def test_defaults():
    spec = SweepSpec.model_validate({"space": {"seed": [0, 1]}})
    assert (spec.chooses.type, spec.pruner.type, spec.parallel, spec.infeasible, spec.retry) == (
        "grid", "none", 1, "drop", 0,
    )  # fmt: skip
    assert spec.objective == (Objective(metric="val_loss"),)
    endless = SweepSpec.model_validate({"space": {"a": {"low": 0, "high": 1.0}}, "budget": {"trials": 3}})
    assert endless.chooses.type == "random"


@pytest.mark.parametrize(
    ("metric", "maximizes"), [("val_loss", False), ("best_val_accuracy", True), ("macs", False),
                              ("samples_per_second", True)],
)  # fmt: skip
def test_which_way_is_better(metric, maximizes):
    assert Objective(metric=metric).maximizes == maximizes
    assert Objective(metric=metric, direction="maximize").maximizes
    assert not Objective(metric=metric, direction="minimize").maximizes


def test_order_puts_conditions_first():
    space = {
        "c": {"choices": [1], "when": {"b": 2}},
        "b": {"choices": [1, 2], "when": {"a": [1]}},
        "a": [1, 3],
        "d": [0],
    }
    assert SweepSpec.model_validate({"space": space}).order == ("a", "b", "c", "d")


def test_short_forms():
    spec = SweepSpec.model_validate(
        {"space": {"a": [1, 2]}, "sampler": "random", "budget": {"trials": 2}, "objective": {"metric": "macs"}}
    )
    assert (spec.sampler.type, spec.sampler.seed, spec.objective[0].metric) == ("random", 0, "macs")
    assert (
        SweepSpec.model_validate({"objective": [{"metric": "macs"}, {"metric": "params"}]}).objective[1].metric
        == "params"
    )


SPACE = "space: {seed: [0, 1]}\n"
ENDLESS = "space: {optimizer.lr: {low: 0.1, high: 0.2}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "space: {seed: 3}",
            "sweep.space.seed: 3 is one value\n  where: <text>:3:11 (sweep.space.seed)\n"
            "  why:   an axis of the space has several\n  fix:   [3, …], or {low: …, high: …}",
        ),
        (
            "space: {seed: {low: 1}}",
            "sweep.space.seed: high is missing\n  where: <text>:3:11 (sweep.space.seed)\n"
            "  why:   an axis has choices, or low and high\n  fix:   […], or {low: …, high: …}",
        ),
        (
            "space: {seed: {step: 1}}",
            "sweep.space.seed: it has no values\n  where: <text>:3:11 (sweep.space.seed)\n"
            "  why:   an axis has choices, or low and high\n  fix:   […], or {low: …, high: …}",
        ),
        (
            "space: {seed: {low: 3, high: 1}}",
            "sweep.space.seed: low 3 is not below high 1\n  where: <text>:3:18 (sweep.space.seed.low)\n"
            "  why:   there is nothing between them\n  fix:   low: 1, high: 3",
        ),
        (
            "space: {seed: {low: 0, high: 9, log: true}}",
            "sweep.space.seed: log from 0 on\n  where: <text>:3:18 (sweep.space.seed.low)\n"
            "  why:   a logarithm needs numbers above 0\n  fix:   low: 1.0e-5",
        ),
        (
            "space: {seed: {low: 1, high: 9, log: true, step: 2}}",
            "sweep.space.seed: log beside step\n  where: <text>:3:46 (sweep.space.seed.step)\n"
            "  why:   steps of a fixed size are not logarithmic\n  fix:   one of the two",
        ),
        (
            "space: {seed: {low: 1, high: 9, step: 20}}",
            "sweep.space.seed: step 20 from 1 to 9\n  where: <text>:3:35 (sweep.space.seed.step)\n"
            "  why:   a step is above 0 and no longer than the range\n  fix:   a smaller step",
        ),
        (
            "space: {seed: {low: 1, high: 9, step: 0.5}}",
            "sweep.space.seed: step 0.5 between whole numbers\n  where: <text>:3:35 (sweep.space.seed.step)\n"
            "  why:   low and high are whole, so every value is\n  fix:   low: 1.0",
        ),
        (
            "space: {seed: {choices: [1], low: 1}}",
            "sweep.space.seed: choices beside low\n  where: <text>:3:32 (sweep.space.seed.low)\n"
            "  why:   an axis is a list or a range\n  fix:   one of the two",
        ),
        (
            "space: {seed: []}",
            "sweep.space.seed: there are no choices\n  where: <text>:3:11 (sweep.space.seed.choices)\n"
            "  why:   an axis has at least one value\n  fix:   […]",
        ),
        (
            "space: {seed: [1, 2, 1]}",
            "sweep.space.seed: 1 stands there twice\n  where: <text>:3:11 (sweep.space.seed.choices)\n"
            "  why:   each choice is tried once\n  fix:   remove one",
        ),
        (
            "space: {seed: {choises: [1]}}",
            "sweep.space.seed: unknown key 'choises'\n  where: <text>:3:18 (sweep.space.seed.choises)\n"
            "  why:   sweep.space.seed knows choices, low, high, step, log, when\n  fix:   did you mean 'choices'?",
        ),
        (
            "space: {optimizer lr: [1, 2]}",
            "sweep: 'optimizer lr' is not a key\n  where: <text>:3:11 (sweep.space.optimizer lr)\n"
            "  why:   a key of the space is written as on the command line: optimizer.lr, model.layers.conv1.filters\n"
            "  fix:   a key or group of the config",
        ),
        (
            "space: {seed: {choices: [1], when: {optimzer: adam}}, optimizer: [adam, sgd]}",
            "sweep: seed: optimzer is not an axis\n  where: <text>:3:39 (sweep.space.seed.when.optimzer)\n"
            "  why:   a condition is on another axis of the space: optimizer\n  fix:   did you mean 'optimizer'?",
        ),
        (
            "space: {seed: {choices: [1], when: {optimizer: [adam, sdg]}}, optimizer: [adam, sgd]}",
            "sweep: seed: optimizer is never 'sdg'\n  where: <text>:3:39 (sweep.space.seed.when.optimizer)\n"
            "  why:   its choices are 'adam', 'sgd'\n  fix:   did you mean 'sgd'?",
        ),
        (
            "space: {seed: {choices: [1], when: {optimizer.lr: 1}}, optimizer.lr: {low: 1, high: 2}}",
            "sweep: seed: optimizer.lr has no choices\n  where: <text>:3:39 (sweep.space.seed.when.optimizer.lr)\n"
            "  why:   a condition names values, and this axis is a range\n  fix:   a list of values for optimizer.lr",
        ),
        (
            "space: {seed: {choices: [1], when: {a: 1}}, a: {choices: [1], when: {seed: 1}}}",
            "sweep: the conditions of seed and a lead in a circle\n  where: <text>:3:32 (sweep.space.seed.when)\n"
            "  why:   each waits for another of them\n  fix:   drop one 'when'",
        ),
        (
            ENDLESS + "sampler: grid",
            "sweep: a grid cannot list optimizer.lr\n  where: <text>:3:11 (sweep.space.optimizer.lr)\n"
            "  why:   there is no end of numbers between two\n  fix:   a list, a step, or sampler: random",
        ),
        (
            ENDLESS,
            "sweep: 'budget' is missing: random does not end by itself\n  where: <text>:2:1 (sweep.budget)\n"
            "  why:   it goes on drawing points\n  fix:   budget: {trials: 24}, or a time",
        ),
        (
            SPACE + "sampler: cma_es\nbudget: {trials: 2}",
            "sweep: cma_es cannot vary seed\n  where: <text>:3:11 (sweep.space.seed)\n"
            "  why:   it knows ranges of numbers without conditions only\n"
            "  fix:   {low: …, high: …}, or sampler: tpe",
        ),
        (
            ENDLESS + "sampler: cma_es\nbudget: {trials: 2}\nobjective: [{metric: macs}, {metric: val_loss}]",
            "sweep: cma_es has one objective\n  where: <text>:4:3 (sweep.sampler)\n  why:   there are 2\n"
            "  fix:   sampler: nsga2",
        ),
        (
            SPACE + "pruner: median\nobjective: [{metric: macs}, {metric: val_loss}]",
            "sweep: pruner median beside several objectives\n  where: <text>:4:3 (sweep.pruner)\n"
            "  why:   which of two trials is worse is then not known\n  fix:   pruner: none",
        ),
        (
            SPACE + "objective: [{metric: macs}, {metric: macs}]",
            "sweep: macs is an objective twice\n  where: <text>:4:3 (sweep.objective)\n"
            "  why:   each is looked at once\n  fix:   remove one",
        ),
        (
            SPACE + "objective: [{metric: val_loss}, {metric: val_acc}]",
            "sweep: objective[1].metric cannot be 'val_acc'\n  where: <text>:4:36 (sweep.objective[1].metric)\n"
            "  why:   it is one of val_loss, val_accuracy, best_val_loss, best_val_accuracy, test_loss, test_accuracy, "
            "train_loss, train_accuracy, samples_per_second, params, macs, memory\n"
            "  fix:   did you mean 'val_accuracy'?",
        ),
        (
            SPACE + "objective: {metrik: val_loss}",
            "sweep.objective: unknown key 'metrik'\n  where: <text>:4:15 (sweep.objective.metrik)\n"
            "  why:   sweep.objective knows metric, direction\n  fix:   did you mean 'metric'?",
        ),
        (
            SPACE + "replicate: {seeds: [1, 2]}",
            "sweep: seeds are replicated and vary too\n  where: <text>:4:15 (sweep.replicate.seeds)\n"
            "  why:   'seed' is an axis of the space\n  fix:   drop one of the two",
        ),
        (
            SPACE.replace("seed", "data.limit") + "replicate: {seeds: [1, 2, 1]}",
            "sweep: seed 1 is replicated twice\n  where: <text>:4:15 (sweep.replicate.seeds)\n"
            "  why:   its runs would be the same\n  fix:   another seed",
        ),
        (
            "space: {data.fold: [1, 2]}\nreplicate: {folds: 2}",
            "sweep: folds are replicated and vary too\n  where: <text>:4:15 (sweep.replicate.folds)\n"
            "  why:   'data.fold' is an axis of the space\n  fix:   drop one of the two",
        ),
        (
            SPACE + "constraints: {params: 100}",
            "sweep: constraints.params cannot be 100\n  where: <text>:4:17 (sweep.constraints.params)\n"
            "  why:   a whole number is not a limit such as '<= 100_000' or '< 2 M' (k, M, G)\n"
            "  fix:   a limit such as '<= 100_000' or '< 2 M' (k, M, G)",
        ),
        (
            SPACE + "constraints: {memory: '16'}",
            "sweep: constraints.memory cannot be '16'\n  where: <text>:4:17 (sweep.constraints.memory)\n"
            "  why:   text is not a limit such as '<= 16 MiB' (B, kB, MB, GB, KiB, MiB, GiB)\n"
            "  fix:   a limit such as '<= 16 MiB' (B, kB, MB, GB, KiB, MiB, GiB)",
        ),
        (
            SPACE + "budget: {time: soon}",
            "sweep: budget.time cannot be 'soon'\n  where: <text>:4:12 (sweep.budget.time)\n"
            "  why:   text is not a number above 0, or a time such as 90 s or 1 h 30 min (ms, s, min, h, d)\n"
            "  fix:   a number above 0, or a time such as 90 s or 1 h 30 min (ms, s, min, h, d)",
        ),
        (
            SPACE + "sampler: tpee",
            "sweep.sampler: unknown type 'tpee'\n  where: <text>:4:3 (sweep.sampler)\n"
            "  why:   it is one of grid, random, tpe, cma_es, nsga2\n  fix:   did you mean 'tpe'?",
        ),
        (
            SPACE + "pruner: {type: median, n_warmup: 3}",
            "sweep.pruner: unknown key 'n_warmup'\n  where: <text>:4:26 (sweep.pruner.n_warmup)\n"
            "  why:   median knows type, n_startup_trials, n_warmup_steps, interval_steps\n"
            "  fix:   did you mean 'n_warmup_steps'?",
        ),
    ],
)  # fmt: skip
def test_mistakes(text, message):
    assert errors(text) == [message]


def test_the_same_words_before_a_sweep(write: Callable):
    write("sweep/mine.yaml", "space:\n  seed: {low: 3, high: 1}\nparalel: 2\n")
    with pytest.raises(ConfigErrors) as caught:
        compose_sweep(["sweep=mine"])
    assert [str(error).splitlines()[:2] for error in caught.value.errors] == [
        ["sweep.space.seed: low 3 is not below high 1", "  where: configs/sweep/mine.yaml:2:10 (sweep.space.seed.low)"],
        ["sweep: unknown key 'paralel'", "  where: configs/sweep/mine.yaml:3:1 (sweep.paralel)"],
    ]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_file(name, text):
        file = tmp_path / "configs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    return write_file
