"""The plan as text."""

from __future__ import annotations

from cnnforge.config import read_run, validate
from cnnforge.report.check import plan_of
from cnnforge.report.plan import plan_text

RUN = {
    "model": {
        "name": "tiny",
        "input": [2, 2, 1],
        "layers": {"out": {"type": "fc", "units": 2, "activation": "softmax"}},
    },
    "optimizer": {"type": "sgd"},
    "trainer": {"batch_size": 4},
}


def test_every_kernel_call_is_listed_with_the_places_it_writes() -> None:
    plan = plan_of(validate(read_run(RUN), match_data=False))
    lines = plan_text(plan).split("\n")
    assert lines[0].startswith("plan for backend numpy, 4 samples of float32: arena ")
    nodes = [node for segment in plan.segments for node in segment.nodes]
    calls = [line.split() for line in lines if line.startswith("  ")]
    assert [call[0] for call in calls] == [node.op for node in nodes]
    assert [line for line in lines if not line.startswith("  ")][1:] == [f"{s.phase} ({s.kind})" for s in plan.segments]
    update = next(call for call in calls if call[0] == "sgd")
    assert update[1:5] == ["optimizer", "->", "params+0", "10"]
    weight = next(call for call in calls if call[0] == "matmul_dw")
    assert weight[1:5] == ["out", "->", "grads+0", "4x2"]
