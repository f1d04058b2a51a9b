"""What every graph must satisfy; a violation is a bug in a block, a rule or a pass, never the user's mistake."""

from __future__ import annotations

from cnnforge.ir.graph import Graph, Value
from cnnforge.ir.narrow import PRODUCTS


def verify(g: Graph) -> None:
    """Assert that every value is written once and before it is read, and that gradients match what they belong to."""
    written: set[Value] = {v for v in g.values if v.kind in ("input", "param", "state", "flat", "step")}
    phases = ("forward", "output", "loss", "backward", "gather", "update")
    for n in sorted(g.nodes, key=lambda n: phases.index(n.phase)):
        for v in n.ins:
            assert v in written, f"{n.op} at {n.path} reads {v} before it is written"
        for v in n.outs:
            if v.kind in ("act", "grad"):
                assert v not in written, f"{n.op} at {n.path} writes {v} a second time"
                written.add(v)
            assert v.kind != "param", f"{n.op} at {n.path} writes parameter {v}; updates go through the flat buffer"
            assert not v.batched or v.shape[0] == g.batch, f"{v} does not begin with the batch"
        if n.op in PRODUCTS or n.op.removesuffix("_dx").removesuffix("_dw") in PRODUCTS:
            read = {v.dtype for v in (*n.ins, *n.outs)}
            assert read == {g.numbers.activations}, f"{n.op} at {n.path} multiplies {' and '.join(sorted(read))}"
    for name, dv in g.grads.items():
        assert dv.shape == g.params[name].value.shape, f"gradient of {name} is {dv.shape}"
        assert dv.dtype == g.dtype, f"gradient of {name} is {dv.dtype}"
        assert g.params[name].trainable, f"{name} is frozen and has a gradient"
        assert name not in g.frozen, f"{name} is frozen and has a gradient"
    for role, v in g.outputs.items():
        assert v in written, f"output {role} is never written"
        assert v.dtype == g.dtype, f"output {role} is {v.dtype}"
