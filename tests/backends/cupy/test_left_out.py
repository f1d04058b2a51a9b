"""Updates that the device leaves out by what it keeps beside the step block."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnforge.ir.graph import DEVICE_FIELDS
from cnnforge.ir.guarded import guarded
from cnnforge.lower import train_graph
from cnnforge.optim import OPTIMIZERS
from cnnforge.spec import ModelSpec
from tests import one_node
from tests.conformance.cases import CASES
from tests.devices import EMULATED

#: Every op that changes what a training goes on from.
UPDATES = ("sgd", "rmsprop", "adam", "adamw", "lamb", "muon", "average", "batch_norm_running")


def kept(**fields):
    return np.array([float(fields.get(name, 0)) for name in DEVICE_FIELDS])


@pytest.mark.parametrize("op", UPDATES)
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_update_is_made_or_left_out_as_the_device_says(op, data):
    case = data.draw(CASES[op]("float32"))
    outs = [case.ins[out] if isinstance(out, int) else out for out in case.outs]
    usual = one_node.run(op, case.ins, case.outs, case.attrs, EMULATED)
    for device in (kept(), kept(scale=8, since=3, loss=2, hits=1)):
        made = one_node.run(op, [*case.ins, device], case.outs, case.attrs, EMULATED)
        for a, b in zip(made, usual, strict=True):
            np.testing.assert_array_equal(a, b)
    for device in (kept(skip=1), kept(stopped=7), kept(skip=1, stopped=7)):
        left = one_node.run(op, [*case.ins, device], case.outs, case.attrs, EMULATED)
        for a, b in zip(left, outs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_all_that_is_guarded_can_be_left_out(optimizer):
    layers = {
        "conv": {"type": "conv", "filters": 4, "kernel": 3},
        "norm": {"type": "batch_norm"},
        "out": {"type": "fc", "units": 3, "activation": "softmax"},
    }
    spec = ModelSpec.model_validate({"name": "t", "input": [5, 5, 1], "layers": layers})
    rule = OPTIMIZERS[optimizer](type=optimizer)
    g = train_graph(spec, 2, "float32", 0, rule, gather=True, average=True, tally=True)
    last = {n.op for n in g.nodes if n.phase == "update" and g.on_device() in n.ins}
    assert last <= {*UPDATES}
    assert {"average", "batch_norm_running"} < last
    before = list(g.nodes)
    guarded(g)
    assert g.nodes == before, "once is enough"
