"""Which way kernel calls go: measured, kept, recorded."""

import json
import re

import pytest

from cnnforge import tuning
from cnnforge.backends import capabilities_of, create
from cnnforge.backends.numba.backend import _flat
from cnnforge.backends.numba.capabilities import INEXACT
from cnnforge.lower import train_graph
from cnnforge.plan import make_plan
from cnnforge.spec import ModelSpec
from cnnforge.tuning import Choice
from tests.backends.cupy.emulator import Emulator
from tests.devices import LibraryBackend

CONV = {"type": "conv", "filters": 16, "kernel": 3, "padding": 1}
SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "input": [12, 12, 3],
        "layers": {"a": CONV, "b": CONV, "c": CONV, "out": {"type": "fc", "units": 2, "activation": "softmax"}},
    }
)


@pytest.fixture(autouse=True)
def _on_a_machine_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def ways(choice, backend="numba"):
    plan = make_plan(train_graph(SPEC, 16, "float32", 0), capabilities_of(backend), choose=choice)
    found = {}
    for segment in plan.segments:
        for n in segment.nodes:
            if n.op.startswith("conv2d"):
                found[n.op, n.path[-1]] = n.attrs["way"]
    return found


def slow(way):
    """A clock by which one way takes long."""
    real = tuning._seconds
    return lambda device, found: {name: took + (name == way) for name, took in real(device, found).items()}


def test_the_fastest_is_taken_kept_and_known_without_a_device(monkeypatch, tmp_path):
    guessed = ways(Choice("numba", None))
    slowest = guessed["conv2d_dw", "b"]
    monkeypatch.setattr(tuning, "_seconds", slow(slowest))
    choice = Choice("numba", None, device=create("numba"))
    tuned = ways(choice)
    assert slowest not in tuned.values()
    # Two layers alike are measured once.
    assert 0 < choice.measured < len(tuned)
    assert ways(Choice("numba", None)) == guessed
    choice.keep()
    assert not choice.notes
    assert ways(Choice("numba", None)) == tuned
    assert ways(Choice("numba", 1)) == guessed, "another number of threads is another machine"


def test_a_runs_record_comes_before_all_else(monkeypatch):
    first = Choice("numba", None)
    guessed = ways(first)
    other = {name: name.rsplit("/", 1)[1].split("+")[-1] for name in first.chosen}
    recorded = ways(Choice("numba", None, record=other))
    assert recorded != guessed
    again = Choice("numba", None, device=create("numba"), record=other)
    assert ways(again) == recorded
    assert again.chosen == other


def test_exact_convolutions_go_no_way_that_rounds_more():
    assert not INEXACT.isdisjoint(ways(Choice("numba", None)).values())
    assert INEXACT.isdisjoint(ways(Choice("numba", None, exact=True)).values())
    assert INEXACT.isdisjoint(ways(Choice("numba", None, exact=True, device=create("numba"))).values())


def test_what_is_measured_is_known_before_and_can_be_compiled_in_one_go(monkeypatch):
    choice, device = Choice("numba", None), create("numba")
    guessed = ways(choice)
    announced = kernels(choice.trials(device))
    assert len(announced) > 3
    run, link = set(), type(device).link
    monkeypatch.setattr(type(device), "link", lambda self, steps: run.update(kernels(steps)) or link(self, steps))
    choice.device = device
    assert ways(choice).keys() == guessed.keys()
    assert choice.measured
    assert run == announced


def kernels(steps):
    return {kernel for step in _flat(steps) for kernel in step.kernels()}


def test_a_damaged_file_is_a_note_and_no_more(tmp_path):
    choice = Choice("numba", None, device=create("numba"))
    ways(choice)
    choice.keep()
    (file,) = (tmp_path / "cnnforge").glob("ways-*.json")
    kept = json.loads(file.read_text())["chosen"]
    assert kept
    assert set(kept) <= set(choice.chosen)
    file.write_text("{")
    damaged = Choice("numba", None)
    assert "the chosen ways of kernels in" in damaged.notes[0]
    assert ways(damaged)


def test_a_backend_with_one_way_is_never_measured():
    choice = Choice("numpy", None, device=create("numpy"))
    plan = make_plan(train_graph(SPEC, 4, "float32", 0), capabilities_of("numpy"), choose=choice)
    assert plan.segments
    assert not choice.measured
    assert not choice.chosen


def test_a_way_that_is_no_more_is_chosen_anew():
    first = Choice("numba", None)
    guessed = ways(first)
    assert ways(Choice("numba", None, record=dict.fromkeys(first.chosen, "by hand"))) == guessed


def test_a_plan_says_which_way(capsys):
    from cnnforge.report.plan import plan_text

    can = capabilities_of("numba")
    text = plan_text(make_plan(train_graph(SPEC, 16, "float32", 0), can, choose=Choice("numba", None)))
    assert re.search(r"conv2d_dx \(winograd\d+\)", text)


def test_a_way_that_the_device_does_not_have_is_not_measured(monkeypatch):
    """It would be kept under the name of what ran in its place."""
    offered, taken = [], []

    def seconds(device, found):
        offered.append(tuple(found))
        return {way: -len(way) for way in found}

    class Device(LibraryBackend):
        def buffer(self, nbytes):
            taken.append(nbytes)
            return super().buffer(nbytes)

    monkeypatch.setattr(tuning, "_seconds", seconds)
    choice = Choice("cupy", None, device=Device(Emulator(plans=1)))
    make_plan(train_graph(SPEC, 16, "float32", 0), Device.capabilities, choose=choice)
    assert set(offered) == {("cudnn", "own")}
    assert set(choice.chosen.values()) == {"cudnn"}
    spaces = sum(nbytes > 4 << 20 for nbytes in taken)
    assert spaces == choice.measured == len(offered), "ways that run one after another share their workspace"


def test_ways_are_known_for_one_card_and_its_libraries_alone(monkeypatch):
    def file(backend, card):
        monkeypatch.setattr("cnnforge.backends.cupy.facts.facts", lambda: {"card": card})
        return Choice(backend, None)._file.path

    assert file("cupy", "H100") == file("cupy", "H100") != file("cupy", "A100")
    assert file("numpy", "H100") == file("numpy", "A100")
