"""The report of real runs: after training, again by the command, of runs that were cut, of every kind of output."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnforge.cli.console import PlainConsole
from cnnforge.cli.main import main
from cnnforge.config import compose, validate
from cnnforge.errors import InterruptedRun
from cnnforge.inference import insight
from cnnforge.inference import overview as overview_module
from cnnforge.inference.overview import after, make_report, overview
from cnnforge.model import Model
from cnnforge.tracking import read
from cnnforge.tracking.entries import NOTE_TAG
from cnnforge.train.run import resume, run

QUICK = [
    "model=lenet5", "data=synthetic", "data.samples=100", "data.test_samples=30", "data.noise=0.5", "tracking=none",
    "trainer.batch_size=32", "trainer.epochs=2", "trainer.log_every=2", "trainer.stats_every=3",
    "trainer.backend=numpy", "seed=3",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def go(*overrides, hook=after):
    out = io.StringIO()
    folder, result = run(validate(compose([*QUICK, *overrides])), PlainConsole(out), after=hook)
    return folder, result, out.getvalue()


def test_a_run_leaves_a_report_that_its_journal_keeps():
    folder, result, said = go()
    assert "report" not in said
    assert (folder / "report.html").is_file()
    records = read(folder / "journal.jsonl")[0]
    kept = [r["path"] for r in records if r["kind"] == "artifact"]
    assert kept[-4:] == ["report.html", "plots", "card.md", "result.json"]
    card = (folder / "card.md").read_text("utf-8")
    (note,) = (r["values"][NOTE_TAG] for r in records if r["kind"] == "tags" and NOTE_TAG in r["values"])
    assert card == note
    assert card.startswith("**")
    assert "First filters](plots/filters.png)" in card
    assert records[-1]["kind"] == "end"
    assert {
        "data",
        "planning",
        "training",
        "validation",
        "waiting_for_data",
        "checkpoints",
        "test",
        "report",
    } <= result["seconds"].keys()
    text = (folder / "report.html").read_text("utf-8")
    assert f"{result['test_accuracy']:.2%}" in text
    assert f"cnnforge reproduce {folder.name}" in text


def test_it_tells_what_the_run_and_its_test_say():
    seen = []
    folder, result, _ = go(hook=lambda done: seen.append(overview(done.folder, done)))
    (facts,) = seen
    assert facts.status == "finished"
    assert facts.notes == ()
    assert facts.verdict.split == "test"
    assert facts.verdict.confusion.sum() == 30
    assert facts.verdict.summary["accuracy"] == f"{result['test_accuracy']:.2%}"
    assert facts.verdict.summary["loss"] == f"{result['test_loss']:.4g}"
    wrong = int(facts.verdict.confusion.sum() - facts.verdict.confusion.trace())
    assert len(facts.mistakes) == min(wrong, insight.MOST_MISTAKES)
    assert [epoch for epoch, _ in facts.epochs["train_loss"]] == [1, 2]
    assert next(iter(facts.layers["grad_norm"])) == "conv1.w"
    assert [a.layer for a in facts.activity] == [row.name for row in Model.load(folder).spec.table]
    assert facts.memory["total"] > 0
    begun = Model(Model.load(folder).spec, backend="numpy", seed=3)
    np.testing.assert_allclose(facts.filters.before, begun.params["conv1.w"], rtol=1e-6)
    np.testing.assert_allclose(facts.filters.after, Model.load(folder).params["conv1.w"])


def test_the_command_makes_the_same_again(capsys):
    folder, *_ = go()
    facts = overview(folder)
    card = (folder / "card.md").read_text("utf-8")
    for name in ("report.html", "card.md"):
        (folder / name).unlink()
    assert main(["report", "latest"]) == 0
    assert capsys.readouterr() == (f"{folder}/report.html\n{folder}/plots\n{folder}/card.md\n", "")
    assert (folder / "card.md").read_text("utf-8") == card
    assert (folder / "report.html").is_file()
    seen = []
    go("run.name=again", hook=lambda done: seen.append(overview(done.folder, done)))
    assert facts.verdict.confusion.tolist() == seen[0].verdict.confusion.tolist()
    assert facts.headline[0] == seen[0].headline[0]


def test_a_run_that_was_cut_gets_one_as_far_as_it_came():
    def cut(progress, metrics, improved):
        raise KeyboardInterrupt

    console = PlainConsole(io.StringIO())
    console.epoch = cut
    with pytest.raises(InterruptedRun):
        run(validate(compose(QUICK)), console, after=after)
    folder = Path("runs/latest").resolve()
    assert not (folder / "report.html").exists(), "no time is taken from somebody who wants to stop"
    paths, notes = make_report(folder)
    assert paths == [folder / "report.html", folder / "plots", folder / "card.md"]
    assert notes == ("The run is not finished (interrupted): what follows is as far as it came.",)
    text = (folder / "report.html").read_text("utf-8")
    assert "The run is not finished (interrupted)" in text
    assert ">Answers<" in text, "the checkpoint of the first epoch answers"
    (folder / "result.json").unlink()
    journal = (folder / "journal.jsonl").read_text().splitlines()
    (folder / "journal.jsonl").write_text("\n".join(journal[:-1]) + "\n")
    assert overview(folder).status == "cut off"


def test_a_run_without_a_checkpoint_has_its_curves():
    folder, *_ = go("trainer.report=false")
    for path in sorted(folder.glob("checkpoints/*/model.json")):
        path.unlink(missing_ok=True)  # links lead to some of them
    (folder / "model" / "model.json").unlink()
    facts = overview(folder)
    assert facts.verdict is None
    assert facts.epochs["train_loss"]
    assert any(note.startswith("Without a model: no saved model in") for note in facts.notes)


def test_without_its_data_a_run_has_the_rest(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.zeros((40, 8, 8, 1), np.uint8), y=np.arange(40) % 10)
    folder, *_ = run(
        validate(compose(["data=npz", "data.path=mine.npz", "data.classes=10", *QUICK[:1], *QUICK[5:]])),
        PlainConsole(io.StringIO()),
    )
    (tmp_path / "mine.npz").unlink()
    facts = overview(folder)
    assert (facts.verdict, facts.seen) == (None, ())
    assert facts.filters is not None
    assert any(note.startswith("Without the data:") for note in facts.notes)


def test_it_can_be_switched_off_and_a_dev_run_has_none():
    for word in ("trainer.report=false", "trainer.fast_dev_run=true"):
        folder, *_ = go(word)
        assert not (folder / "report.html").exists()


def test_an_error_in_it_fails_no_run():
    def broken(done):
        raise ValueError("no room")

    folder, result, said = go(hook=broken)
    assert result["status"] == "finished"
    assert f"the report was not made: no room; cnnforge report {folder} tries again" in said
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"


def test_what_came_out_is_written_before():
    seen = []
    go(hook=lambda done: seen.append(json.loads((done.folder / "result.json").read_text())["status"]))
    assert seen == ["finished"]


def test_a_resumed_run_gets_one_of_its_whole_life():
    folder, *_ = go("trainer.report=false")
    words = ["trainer.epochs=3", "trainer.report=true"]
    resume(folder, words, PlainConsole(io.StringIO()), changed=True, after=after)
    assert (folder / "report.html").is_file()
    assert [epoch for epoch, _ in overview(folder).epochs["train_loss"]] == [1, 2, 3]


def test_a_run_that_max_steps_cut_in_an_epoch_goes_on_to_its_end():
    """It used to wait for batches that nobody makes."""
    folder, *_ = go("trainer.max_steps=4", "trainer.report=false")
    _, result = resume(folder, ["trainer.max_steps=8"], PlainConsole(io.StringIO()), changed=True)
    assert result["status"] == "finished"


def test_filters_of_a_run_that_began_with_anothers():
    first, *_ = go("trainer.report=false")
    again, *_ = go("init_from.source=" + str(first), "trainer.report=false", "seed=4")
    before = overview(again).filters.before
    np.testing.assert_array_equal(before, Model.load(first).params["conv1.w"])


KINDS = {
    "yes or no": ("{type: fc, units: 1, activation: sigmoid}", lambda n: np.arange(n) % 2, "data.classes=2"),
    "numbers": ("{type: fc, units: 2}", lambda n: np.arange(2.0 * n).reshape(n, 2) / n, None),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixels", [np.uint8, np.float32])
def test_every_kind_of_output(kind, pixels, tmp_path):
    """With no test and no validation, it asks about what was learned from, and says so."""
    output, labels, classes = KINDS[kind]
    x = np.random.default_rng(0).integers(0, 255, (24, 6, 6, 3)).astype(pixels)
    np.savez(tmp_path / "mine.npz", x=x, y=labels(24))
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "mine.yaml").write_text(
        f"name: mine\ninput: [6, 6, 3]\nlayers:\n  conv1: {{type: conv, filters: 4, kernel: 3, activation: relu}}\n"
        f"  output: {output}\n"
    )
    words = ["model=mine", "data=npz", "data.path=mine.npz", *([classes] if classes else []), "data.validation=0",
             "data.test=0", *QUICK[5:]]  # fmt: skip
    folder, *_ = run(validate(compose(words)), PlainConsole(io.StringIO()), after=after)
    facts = overview(folder)
    assert "learned from these" in facts.verdict.split
    assert (facts.verdict.yes is not None) == (kind == "yes or no")
    assert (facts.verdict.outputs is not None) == (kind == "numbers")
    assert len(facts.verdict.scores) == 2
    assert (folder / "report.html").is_file()


def test_other_data_are_said_to_be_other(monkeypatch):
    folder, *_ = go("trainer.report=false")
    other = overview_module.load

    def loaded(*arguments):
        return replace(other(*arguments), digest="0" * 64)

    monkeypatch.setattr(overview_module, "load", loaded)
    assert "The data are not those that the run was trained with: their digest differs." in overview(folder).notes


def test_what_is_not_in_it_is_said(capsys):
    folder, *_ = go("trainer.report=false")
    for path in sorted(folder.glob("checkpoints/*/model.json")):
        path.unlink(missing_ok=True)
    (folder / "model" / "model.json").unlink()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().err == f"note: Without a model: no saved model in {folder.resolve()}.\n"


def test_files_that_are_not_what_they_should_be_are_as_if_not_there(capsys):
    folder, *_ = go("trainer.report=false")
    (folder / "result.json").write_text("[1, 2]")
    (folder / "plan.json").write_text("[]")
    assert main(["report", str(folder)]) == 0
    assert "validation accuracy" in (folder / "report.html").read_text("utf-8"), "the journal has it too"


def test_where_it_cannot_be_written_it_says_so(capsys):
    folder, *_ = go("trainer.report=false")
    (folder / "plots").touch()
    assert main(["report", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"the report of {folder.name} cannot be written\n  where: {folder.resolve() / 'plots'}\n  why:   File exists\n"
        "  fix:   a run folder that may be written to, with room on its disk\n"
    )


def test_a_sweep_is_not_one_run(capsys, tmp_path):
    (tmp_path / "runs" / "s" / "trials").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "journal.jsonl").write_text("")
    assert main(["report", "s"]) == 2
    assert capsys.readouterr().err == (
        f"s is a sweep\n  where: {tmp_path / 'runs' / 's'}\n  why:   this is done with one run, and a sweep has many\n"
        "  fix:   one of its trials: cnnforge sweep report s says which there are\n"
    )


def test_layers_to_show_are_few_and_end_with_the_last():
    from cnnforge.config import read_model, validate_model

    root = Path(__file__).parents[2]
    for name in ("lenet", "resnet50", "googlenet", "vgg16_bn", "mobilenet_v2"):
        spec = validate_model(read_model(root / "configs" / "model" / f"{name}.yaml"))
        shown = insight.shown_layers(spec.table)
        assert 3 <= len(shown) <= insight.MOST_LAYERS
        assert shown[-1] is spec.table[-1]
        assert not any(row.type in ("dropout", "flatten") for row in shown[:-1])
