"""What the driver is asked, and what it says."""

from __future__ import annotations

import pytest

from cnnforge.backends import facts_of
from cnnforge.backends.cupy import driver, facts
from cnnforge.backends.cupy.driver import Card, Driver
from tests.backends.cupy.driven import TWO, Library, loads


def test_the_driver_is_asked_for_every_card() -> None:
    found = driver.driver(loads(Library(12040, TWO)))
    assert found == Driver(12040, (Card(0, *TWO[0]), Card(1, *TWO[1])))
    assert driver.driver(loads(None)) is None
    assert driver.driver(loads(Library(12040, TWO, broken=999))) == Driver(12040, ())


def test_ways_are_measured_for_a_card_and_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "driver", lambda: driver.driver(loads(Library(12080, TWO))))
    versions = {"cupy-cuda12x": "14.1", "nvidia-cudnn-cu12": "9.28", "nvidia-cudnn-frontend": "1.26"}

    def version(name: str) -> str:
        if name not in versions:
            raise facts.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(facts, "version", version)
    assert facts_of("cupy") == {
        "card": "NVIDIA H100 80GB HBM3, CUDA 12.8", "cupy": "14.1", "cudnn": "9.28", "cudnn frontend": "1.26",
        "cublas": "",
    }  # fmt: skip


@pytest.mark.parametrize("library", [None, Library(12080, ()), Library(12080, TWO, broken=100)])
def test_facts_of_a_machine_without_a_card(library: Library | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "driver", lambda: driver.driver(loads(library)))
    assert facts.card() == ""
