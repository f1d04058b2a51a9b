"""The three ways of saying a shape agree: what the spec works out, what the graph holds, what the arrays are."""

from hypothesis import given, settings

from cnnforge.shapes import count
from tests.building import build
from tests.strategies import models


@settings(max_examples=120, deadline=None)
@given(models())
def test_spec_graph_and_arrays_agree(spec):
    for training in (True, False):
        built = build(spec, batch=2, training=training)
        built.run("forward", "output", "loss")
        assert built.bound.outputs["output"].shape == (2, *spec.output)
        assert built.graph.outputs["output"].shape == (2, *spec.output)
        params = {f"{row.name}.{name}": p.shape for row in spec.table for name, p in row.params.items()}
        assert {name: p.value.shape for name, p in built.graph.params.items()} == params
        assert {name: a.shape for name, a in built.exe.weights.params.items()} == params
        assert built.plan.sizes["params"] == 8 * sum(map(count, params.values()))
        for v in built.graph.outputs.values():
            assert built.plan.places[v].buffer == "arena"


@settings(max_examples=60, deadline=None)
@given(models())
def test_a_gradient_has_the_shape_of_its_parameter(spec):
    built = build(spec)
    trainable = {name for name, p in built.graph.params.items() if p.trainable}
    assert built.exe.grads.keys() == trainable
    for name, grad in built.exe.grads.items():
        assert grad.shape == built.exe.weights.params[name].shape


@settings(max_examples=60, deadline=None)
@given(models())
def test_a_partial_batch_gives_what_a_full_plan_would(spec):
    """Planned for 5 and bound for 2 is the same as planned for 2."""
    import numpy as np

    results = []
    for capacity in (2, 5):
        built = build(spec, batch=2, capacity=capacity)
        built.run("forward", "loss", "backward")
        results.append({k: v.copy() for k, v in built.exe.grads.items()})
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])
