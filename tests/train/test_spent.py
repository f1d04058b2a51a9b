"""Time by purpose."""

from cnnforge.train import spent as spent_module
from cnnforge.train.spent import Spent


def test_what_is_inside_is_not_counted_twice(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr(spent_module, "perf_counter", lambda: next(clock))
    spent = Spent()
    with spent.on("training"):  # from 0 to 10
        with spent.on("validation"):  # from 2 to 5
            spent.add("waiting_for_data", 1.0)
        spent.add("waiting_for_data", 0.5)
    with spent.on("training"):  # from 20 to 21
        pass
    assert list(spent.rounded()) == ["training", "waiting_for_data", "validation"]
    assert spent.rounded() == {"training": 10.0 - 3.0 - 0.5 + 1.0, "waiting_for_data": 1.5, "validation": 2.0}
