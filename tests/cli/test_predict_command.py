"""``cnnforge predict`` and ``evaluate`` on runs that the commands themselves made."""

import csv
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from cnnforge.cli.main import main
from tests.drawn import SHAPES, draw_folder, drawn

QUICK = ["trainer.backend=numpy", "tracking=none"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the runs ``shapes`` (three classes), ``round`` (yes or no) and ``edges`` (floats)."""
    here = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        draw_folder(here / "pictures", 100)
        shapes = ["data=image_folder", "data.path=pictures", *QUICK]
        one = "model.layers.output={type: fc, units: 1, activation: sigmoid}"
        assert main(["train", *shapes, "run.name=shapes"]) == 0
        assert main(["train", *shapes, "run.name=round", "trainer.epochs=1", "data.positive=[circle]", one]) == 0
        assert main(["train", "data=edges", "model=edge_learner", *QUICK, "run.name=edges", "trainer.epochs=1"]) == 0
    new = here / "new"
    new.mkdir()
    for shape in SHAPES:
        drawn(shape, 77).save(new / f"{shape}.png")
    return here


@pytest.fixture(autouse=True)
def there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))


def said(capsys, *words, code=0):
    assert main([*words]) == code
    return capsys.readouterr()


def test_a_table(capsys):
    out = said(capsys, "predict", "shapes", "new").out.splitlines()
    assert out[0].split() == ["file", "1", "2", "3"]
    assert len(out) == 4
    for line, shape in zip(out[1:], SHAPES, strict=True):
        words = line.split()
        assert words[0] == f"new/{shape}.png"
        assert words[1] == shape
        assert sum(float(word.rstrip("%")) for word in words[2::2]) == pytest.approx(100, abs=0.2)
    assert len({line.index("%") for line in out[1:]}) == 1, "columns are aligned"


def test_json(capsys):
    out = json.loads(said(capsys, "predict", "shapes", "new/circle.png", "--json", "--top", "2").out)
    ((first, second),) = [one.pop("predictions") for one in out]
    assert out == [{"file": "new/circle.png"}]
    assert (first["class"], first["number"]) == ("circle", 0)
    assert 0 <= second["probability"] <= first["probability"] <= 1


def test_csv(capsys):
    rows = list(csv.reader(io.StringIO(said(capsys, "predict", "shapes", "new", "--csv", "--top=1").out)))
    assert rows[0] == ["file", "class_1", "probability_1", "error"]
    assert [row[1] for row in rows[1:]] == list(SHAPES)


def test_the_three_agree(capsys):
    words = ["predict", "shapes", "new/square.png"]
    (row,) = json.loads(said(capsys, *words, "--json").out)
    line = said(capsys, *words, "--csv").out.splitlines()[1].split(",")
    assert [float(p) for p in line[2::2]] == pytest.approx([one["probability"] for one in row["predictions"]])


def test_broken_files(workplace, capsys):
    (workplace / "bad.png").write_bytes(b"no picture")
    words = ["predict", "shapes", "bad.png", "new/circle.png", "gone.png"]
    shown = said(capsys, *words, code=3)
    assert shown.err == "bad.png: no picture of a known format\ngone.png: No such file or directory\n"
    assert [line.split()[0] for line in shown.out.splitlines()] == ["file", "new/circle.png"]
    out = json.loads(said(capsys, *words, "--json", code=3).out)
    assert out[0] == {"file": "bad.png", "error": "no picture of a known format"}
    rows = list(csv.reader(io.StringIO(said(capsys, *words, "--csv", code=3).out)))
    assert rows[1] == ["bad.png", *[""] * 6, "no picture of a known format"]
    shown = said(capsys, "predict", "shapes", "bad.png", code=3)
    assert (shown.out, shown.err) == ("", "bad.png: no picture of a known format\n")


def test_standard_input(workplace, capsys, monkeypatch):
    class Piped:
        buffer = io.BytesIO((workplace / "new" / "square.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Piped)
    assert said(capsys, "predict", "shapes", "-").out.splitlines()[1].split()[:2] == ["-", "square"]
    assert said(capsys, "predict", "shapes", "-", "-", code=2).err == (
        "- is there twice\n  where: cnnforge predict\n  why:   standard input is one picture\n  fix:   name it once\n"
    )


def test_yes_or_no(capsys):
    out = said(capsys, "predict", "round", "new/circle.png").out.splitlines()
    assert out[0].split() == ["file", "answer", "probability", "of", "circle"]
    assert out[1].split()[1] in ("yes", "no")
    (row,) = json.loads(said(capsys, "predict", "round", "new/circle.png", "--json").out)
    assert row["class"] == "circle"
    assert row["answer"] == ("yes" if row["probability"] > 0.5 else "no")
    assert said(capsys, "predict", "round", "new/circle.png", "--csv").out.startswith(
        "file,answer,class,probability,error"
    )


def test_a_model_of_floats(capsys):
    assert said(capsys, "predict", "edges", "new/circle.png", code=3).err == (
        "model edge_learner does not take picture files\n"
        "  why:   it was trained on arrays that are no 8-bit pictures of one or three channels\n"
        "  fix:   give it arrays, in Python: Model.predict\n"
    )


def test_a_saved_model_by_its_folder(workplace, capsys):
    folder = workplace / "runs" / "shapes" / "checkpoints" / "best"
    assert said(capsys, "predict", str(folder), "new").out == said(capsys, "predict", "shapes", "new").out


def test_explanations(workplace, capsys):
    shown = said(capsys, "predict", "shapes", "new", "pictures/circle/00.png", "new/circle.png", "--explain")
    assert shown.out.splitlines()[-1] == "explained in explained/"
    assert sorted(p.name for p in (workplace / "explained").iterdir()) == [
        "00.png", "circle-2.png", "circle.png", "square.png", "triangle.png",
    ]  # fmt: skip
    (row,) = json.loads(said(capsys, "predict", "round", "new/circle.png", "--explain", "--json", "--out", "why").out)
    assert row["explanation"] == "why/circle.png"
    with Image.open(workplace / "why" / "circle.png") as picture:
        assert picture.size[0] > 3 * 256


def test_what_matters_is_where_the_shape_is(workplace):
    """Hiding the shape costs more than hiding the ground, in most pictures and on the mean."""
    from cnnforge.inference.explain import asked, explain
    from cnnforge.inference.predict import answers, load, picture_files

    model = load(workplace / "runs" / "shapes", 1)
    inside = []
    for answer in answers(
        model,
        picture_files([f"pictures/{shape}/{i:02}.png" for shape in ("circle", "triangle") for i in range(10)]),
        bytes,
    ):
        dark = answer.picture.mean(axis=-1) < answer.picture.mean()
        heat = explain(model, answer.picture, asked(model, answer)).hidden
        inside.append(heat[dark].mean() > heat[~dark].mean())
    assert np.mean(inside) > 0.8


def test_mistakes_in_the_command(workplace, capsys):
    assert said(capsys, "predict", "shapes", "new", "--out", "x", code=2).err == (
        "--out without --explain\n  where: cnnforge predict --out\n  why:   answers go to standard output\n"
        "  fix:   --explain --out DIR; cnnforge predict … --csv > FILE keeps the answers\n"
    )
    assert "'0' is not a whole number above 0" in said(capsys, "predict", "shapes", "new", "--top=0", code=2).err
    assert "not allowed with argument" in said(capsys, "predict", "shapes", "new", "--json", "--csv", code=2).out
    assert said(capsys, "predict", "shaeps", "new", code=2).err.startswith("shaeps: no such run\n")
    (workplace / "file").write_text("")
    shown = said(capsys, "predict", "shapes", "new", "--explain", "--out", "file", code=2)
    assert shown.err.startswith("file cannot be written\n  where: cnnforge predict --out\n")


def test_evaluate(workplace, capsys):
    result = json.loads((workplace / "runs" / "shapes" / "result.json").read_text())
    lines = said(capsys, "evaluate", "shapes").out.splitlines()
    assert lines[0] == "shapes on image_folder, test: 60 samples"
    assert lines[3].startswith(f"accuracy  {result['test_accuracy']:.2%}, ")
    assert lines[-4:][0].split() == list(SHAPES)
    out = json.loads(said(capsys, "evaluate", "shapes", "--json", "--wrong", "3").out)
    assert [*out] == ["run", "model", "data", "source", "split", "samples", "loss", "accuracy", "macro_f1", "classes",
                      "confusion", "mistakes"]  # fmt: skip
    assert out["loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    assert np.trace(out["confusion"]) == round(result["test_accuracy"] * 60)
    assert json.loads(said(capsys, "evaluate", "shapes", "--split=train", "--json").out)["samples"] == 216


def test_evaluate_on_other_data(workplace, capsys):
    draw_folder(workplace / "others", 4, first=200)
    for words in (["data=image_folder", "data.path=others"], ["data.path=others"]):
        out = json.loads(said(capsys, "evaluate", "shapes", *words, "--json").out)
        assert (out["split"], out["samples"], out["source"]) == ("all", 12, "others")
    rows = list(csv.reader(io.StringIO(said(capsys, "evaluate", "shapes", *words, "--csv").out)))
    assert [row[:2] for row in rows] == [["class", "samples"], *([shape, "4"] for shape in SHAPES)]
    rows = list(csv.reader(io.StringIO(said(capsys, "evaluate", "shapes", *words, "--csv", "--wrong=20").out)))
    assert rows[0] == ["sample", "file", "truth", "answer", "probability"]
    assert all(row[1].split("/")[0] == row[2] != row[3] for row in rows[1:])


def test_evaluate_notes_that_data_have_changed(workplace, capsys):
    extra = workplace / "pictures" / "circle" / "extra.png"
    drawn("circle", 999).save(extra)
    try:
        assert "note: pictures is not what it was when shapes was trained\n" in said(capsys, "evaluate", "shapes").err
    finally:
        extra.unlink()
    assert "not what it was" not in said(capsys, "evaluate", "shapes").err


def test_evaluate_of_a_regression(capsys):
    lines = said(capsys, "evaluate", "edges", "--split", "validation").out.splitlines()
    assert lines[0].startswith("edges on edges, validation: ")
    assert any(line.startswith("output") for line in lines)


def test_mistakes_in_evaluating(capsys):
    assert said(capsys, "evaluate", "shapes", "model=lenet5", "data.path=others", code=2).err == (
        "model=lenet5 does not change the data\n  where: cnnforge evaluate model=lenet5\n"
        "  why:   the model is what the run made it, and only the data can be others\n"
        "  fix:   data=NAME or data.key=value; cnnforge train for another model\n"
    )
    assert "'x' is not a whole number" in said(capsys, "evaluate", "shapes", "--wrong", "x", code=2).err
    assert "data: there is no 'image_foldr'" in said(capsys, "evaluate", "shapes", "data=image_foldr", code=2).err
    assert said(capsys, "evaluate", "shapes", "data=digits", code=3).err.startswith(
        "digits: the model knows no class 0, 1, 2, 3, 4\n"
    )
    shown = said(capsys, "evaluate", "shapes", "data=image_folder", "data.path=nowhere", code=3)
    assert shown.err.startswith("image_folder: there is no nowhere\n")


def test_what_check_says_of_counted_classes(capsys):
    shown = said(capsys, "check", "data=image_folder", "data.path=pictures")
    assert "note: data.classes: 3, counted in pictures: circle, square, triangle\n" in shown.err
    assert "output   fc       3" in shown.out
