"""Backward rules: one per op, written as graph nodes.

A rule gets the graph, the forward node and the gradients of the node's outputs (``None`` where nothing depends on an
output), and a ``wants(value)`` test. It returns one gradient per input, ``None`` where there is none or none is wanted.
A gradient has its primal's shape, so no shape rule is repeated here. Gradients are sums over the batch; the optimizer
scales once by 1/n.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnforge import plugins
from cnnforge.errors import ConfigError
from cnnforge.ir.graph import Graph, Node, Value
from cnnforge.ir.op import Grads, Rule, Wants, added_ops

RULES: dict[str, Rule] = {}

#: Ops whose derivative is written in terms of their output (so the input need not be kept) …
FROM_OUTPUT = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "hard_sigmoid", "sigmoid", "tanh", "softmax",
)  # fmt: skip
#: … and those that need their input.
FROM_INPUT = ("gelu", "silu", "hard_swish")


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register the backward rule of ``ops``."""

    def add(function: Rule) -> Rule:
        for op in ops:
            RULES[op] = function
        return function

    return add


def _grad(g: Graph, op: str, of: Value, *ins: Value, **attrs: object) -> Value:
    dv = g.like(of, kind="grad" if of.kind == "param" else "act")
    g.node(op, ins, (dv,), **attrs)
    return dv


@rule("conv2d")
def _conv2d(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, w), dy = n.ins, _one(dys)
    dw = _grad(g, "conv2d_dw", w, x, dy, **n.attrs) if wants(w) else None
    return (_grad(g, "conv2d_dx", x, dy, w, **n.attrs) if wants(x) else None), dw


@rule("conv2d_dx")
def _conv2d_dx(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    """Of a transposed convolution, which is a convolution's gradient used forward: x there is what dy is here."""
    (x, w), dy = n.ins, _one(dys)
    dw = _grad(g, "conv2d_dw", w, dy, x, **n.attrs) if wants(w) else None
    return (_grad(g, "conv2d", x, dy, w, **n.attrs) if wants(x) else None), dw


@rule("matmul")
def _matmul(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, w), dy = n.ins, _one(dys)
    dw = _grad(g, "matmul_dw", w, x, dy, **n.attrs) if wants(w) else None
    return (_grad(g, "matmul_dx", x, dy, w, **n.attrs) if wants(x) else None), dw


@rule("bias")
def _bias(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, b), dy = n.ins, _one(dys)
    return (dy if wants(x) else None), (_grad(g, "bias_db", b, dy) if wants(b) else None)


@rule(*FROM_OUTPUT)
def _from_output(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, f"{n.op}_dx", n.ins[0], n.out, _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule(*FROM_INPUT)
def _from_input(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, f"{n.op}_dx", n.ins[0], n.ins[0], _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule("prelu")
def _prelu(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, alpha), dy = n.ins, _one(dys)
    dx = _grad(g, "prelu_dx", x, x, alpha, dy) if wants(x) else None
    return dx, (_grad(g, "prelu_dalpha", alpha, x, dy) if wants(alpha) else None)


@rule("max_pool2d")
def _max_pool2d(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, "max_pool2d_dx", n.ins[0], n.outs[1], _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule("average_pool2d")
def _average_pool2d(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, "average_pool2d_dx", n.ins[0], _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule("reshape", "cast")
def _same_numbers(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, n.op, n.ins[0], _one(dys)) if wants(n.ins[0]) else None,)


@rule("add")
def _add(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    dy = _one(dys)
    return tuple(dy if wants(v) else None for v in n.ins)


@rule("multiply")
def _multiply(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (a, b), dy = n.ins, _one(dys)
    da = _grad(g, "multiply", a, dy, b) if wants(a) else None
    return da, (_grad(g, "multiply", b, dy, a) if wants(b) else None)


@rule("scale")
def _scale(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, "scale", n.ins[0], _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule("scale_channels")
def _scale_channels(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, gate), dy = n.ins, _one(dys)
    dx = _grad(g, "scale_channels", x, dy, gate) if wants(x) else None
    return dx, (_grad(g, "scale_channels_dgate", gate, x, dy) if wants(gate) else None)


@rule("concat")
def _concat(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    dy, start, grads = _one(dys), 0, []
    for v in n.ins:
        grads.append(_grad(g, "slice_channels", v, dy, start=start) if wants(v) else None)
        start += v.shape[-1]
    return tuple(grads)


@rule("shortcut_pad")
def _shortcut_pad(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    return (_grad(g, "shortcut_pad_dx", n.ins[0], _one(dys), **n.attrs) if wants(n.ins[0]) else None,)


@rule("channel_shuffle")
def _channel_shuffle(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    x = n.ins[0]
    back = x.shape[-1] // int(n.attrs["groups"])
    return (_grad(g, "channel_shuffle", x, _one(dys), groups=back) if wants(x) else None,)


@rule("dropout")
def _dropout(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    x, mask = n.ins[0], n.outs[1]
    dx = _grad(g, "dropout_dx", x, mask, _one(dys), rate=n.attrs["rate"]) if wants(x) else None
    return dx, None


@rule("batch_norm")
def _batch_norm(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, gamma, beta), (_, mean, var, _), dy = n.ins, n.outs, _one(dys)
    # Both sums are needed for dx even where gamma and beta are frozen: they are then ordinary small activations.
    dgamma = g.like(gamma, kind="grad" if wants(gamma) else "act")
    dbeta = g.like(beta, kind="grad" if wants(beta) else "act")
    g.node("batch_norm_dparams", (x, mean, var, dy), (dgamma, dbeta), **n.attrs)
    dx = _grad(g, "batch_norm_dx", x, x, gamma, mean, var, dgamma, dbeta, dy, **n.attrs) if wants(x) else None
    return dx, (dgamma if wants(gamma) else None), (dbeta if wants(beta) else None)


@rule("group_norm", "layer_norm")
def _sample_norm(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    (x, gamma, beta), (_, mean, inverse), dy = n.ins, n.outs, _one(dys)
    groups = {"groups": n.attrs["groups"]} if n.op == "group_norm" else {}
    dx = _grad(g, f"{n.op}_dx", x, x, gamma, mean, inverse, dy, **groups) if wants(x) else None
    dgamma = _grad(g, f"{n.op}_dgamma", gamma, x, mean, inverse, dy, **groups) if wants(gamma) else None
    return dx, dgamma, (_grad(g, "bias_db", beta, dy) if wants(beta) else None)


@rule("lrn")
def _lrn(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    x, base = n.ins[0], n.outs[1]
    attrs = {name: n.attrs[name] for name in ("size", "alpha", "beta")}
    return (_grad(g, "lrn_dx", x, x, base, _one(dys), **attrs) if wants(x) else None,)


@rule("softmax_cross_entropy", "sigmoid_cross_entropy", "weighted_sigmoid_cross_entropy", "mse")
def _loss(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    z, labels = n.ins
    return (_grad(g, f"{n.op}_dz", z, z, labels, **n.attrs) if wants(z) else None), None


@rule("soft_cross_entropy")
def _soft_cross_entropy(g: Graph, n: Node, dys: Grads, wants: Wants) -> Grads:
    z, targets, _ = n.ins
    return (_grad(g, "soft_cross_entropy_dz", z, z, targets) if wants(z) else None), None, None


def _rule_of(n: Node) -> Rule:
    """The backward rule of a node's op. Raises ConfigError where an installed package's op has none."""
    if n.op in RULES:
        return RULES[n.op]
    op = added_ops().get(n.op)
    if unusable := plugins.broken(n.op):
        raise unusable[0]
    if op is None or op.rule is None:
        why = "something before it learns, and its gradient goes through this op"
        fix = "the package that adds the op needs a rule for it in cnnforge.ops, or trainable: false before it"
        raise ConfigError(f"op {n.op} has no backward rule", path=n.path, why=why, fix=fix)
    return op.rule


def _one(dys: Grads) -> Value:
    dy = dys[0]
    assert dy is not None
    return dy


def depends_on_trainable(g: Graph) -> set[Value]:
    """Every value that a trainable parameter reaches: only these need gradients."""
    reached = {p.value for name, p in g.params.items() if p.trainable and name not in g.frozen}
    for n in g.nodes:
        if any(v in reached for v in n.ins):
            reached.update(n.outs)
    return reached


def backward(g: Graph, loss: Node, scaled: bool = False) -> None:
    """Append the backward nodes of ``loss`` and record ``g.grads``: parameter name -> its gradient.

    The loss's own gradient is 1 for every sample, or where ``scaled`` the loss scale that the device keeps. Where a
    value is read more than once, its gradients are added.
    """
    reached = depends_on_trainable(g)
    grads: dict[Value, Value | None] = {loss.out: None}
    phase, path = g.phase, g.path
    g.phase = "backward"
    forward = [n for n in g.nodes if n.phase in ("forward", "loss")]
    for n in reversed(forward):
        if n is not loss and all(grads.get(v) is None for v in n.outs):
            continue
        g.path = n.path
        results = _rule_of(n)(g, n, tuple(grads.get(v) for v in n.outs), reached.__contains__)
        if scaled and n is loss:
            results = tuple(dv and _grad(g, "scale_loss", dv, dv, g.on_device()) for dv in results)
        for v, dv in zip(n.ins, results, strict=True):
            if dv is None:
                continue
            earlier = grads.get(v)
            if earlier is not None:
                total = g.like(v, kind="grad" if v.kind == "param" else "act")
                g.node("add", (earlier, dv), (total,))
                dv = total
            grads[v] = dv
    g.phase, g.path = phase, path
    for name, p in g.params.items():
        dv = grads.get(p.value)
        if dv is not None:
            g.grads[name] = dv
