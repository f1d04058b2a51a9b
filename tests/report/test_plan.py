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
    "trainer": {"batch_size": 4, "backend": "numpy"},
}


def test_every_kernel_call_is_listed_with_the_places_it_writes() -> None:
    plan = plan_of(validate(read_run(RUN), match_data=False))
    title, blank, head, *lines = plan_text(plan).split("\n")
    assert title.startswith("plan for backend numpy, 4 samples of float32: arena ")
    assert (blank, head.split()) == ("", ["kernel", "layer", "writes", "offset", "shape", "type", "beside", "it"])
    nodes = [node for segment in plan.segments for node in segment.nodes]
    calls = [line.split() for line in lines if line.startswith("  ")]
    assert [call[0] for call in calls] == [node.op for node in nodes]
    assert [line for line in lines if not line.startswith("  ")] == [f"{s.phase} ({s.kind})" for s in plan.segments]
    assert next(call for call in calls if call[0] == "sgd")[1:6] == ["optimizer", "params", "0", "10", "float32"]
    assert next(call for call in calls if call[0] == "matmul_dw")[1:] == ["out", "grads", "0", "4x2", "float32"]
    loss = next(line for line in lines if "softmax_cross_entropy " in line)
    hits = plan.places[plan.outputs["hits"]]
    assert f"float32  arena+{hits.offset:,} 4 float32; workspace arena+" in loss


def test_columns_of_the_plan_are_aligned() -> None:
    plan = plan_of(validate(read_run(RUN), match_data=False))
    _, _, head, *lines = plan_text(plan).split("\n")
    calls = [line for line in lines if line.startswith("  ")]
    for name in ("layer", "writes", "shape", "type"):
        at = head.index(name)
        assert all(line[at - 1] == " " != line[at] for line in calls), name
    end = head.index("offset") + len("offset")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in calls)
