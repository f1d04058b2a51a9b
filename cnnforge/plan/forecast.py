"""What a plan will take, before it is bound: bytes, and seconds where the cost of each kernel call is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b

from cnnforge.ir.graph import Node, Phase, Value
from cnnforge.plan.plan import Plan, PlannedNode

#: In ``costs``: what a step takes beside its kernel calls.
STEP = "step"
#: What a step of training runs.
TRAINING: tuple[Phase, ...] = ("forward", "loss", "backward", "gather", "update")

#: A step is measured with as many samples as it is to have if, guessed roughly, it takes no longer and no more memory.
_LONGEST, _LARGEST = 1.5, 1 << 30
_MACS_PER_SECOND, _BYTES_PER_SECOND = 1e10, 5e9


def memory(*plans: Plan) -> dict[str, int]:
    """Bytes by purpose, for plans that share parameters and arena (training first, then evaluation).

    ``activations`` counts inputs, activations and their gradients as placed; ``workspace`` is what kernels need on top;
    ``state`` holds running statistics and the step block. ``total`` is exactly what binding allocates, and what
    resident memory grows by when steps run: kernels allocate nothing beside it.

    A run takes more than its plans: the interpreter with its libraries, the data set as it is stored, two batches of
    input that are made ahead of time, and, where NumPy makes them, a batch of each split as stored and as float32. Its
    evaluation plan, of the same batch, lies in the same arena and keeps no gradients, so counting it as well hardly
    ever changes the numbers.
    """
    sizes = {name: max(p.sizes[name] for p in plans) for name in plans[0].sizes}
    arena, activations = sizes["arena"], max(p.activations for p in plans)
    parts = {
        "params": sizes["params"],
        "gradients": sizes["grads"],
        "optimizer": sizes["slots"],
        "state": sizes["state"] + sizes["step"],
        "activations": activations,
        "workspace": arena - activations,
    }
    return parts | {"total": sum(parts.values())}


def training_nodes(plan: Plan) -> Iterator[PlannedNode]:
    """The kernel calls of one training step, in order."""
    return (n for segment in plan.segments if segment.phase in TRAINING for n in segment.nodes)


def signature(node: Node | PlannedNode, batch: int) -> str:
    """What decides how long a kernel call takes, as 16 hex digits: op, shapes with ``batch`` samples, types, attrs.

    The key of a random stream is left out: it decides which numbers are drawn, not how many.
    """

    def shown(values: tuple[Value, ...]) -> list[tuple[tuple[int, ...], str]]:
        return [((batch, *v.shape[1:]) if v.batched else v.shape, v.dtype) for v in values]

    attrs = sorted((name, value) for name, value in node.attrs.items() if name != "key")
    return blake2b(repr((node.op, shown(node.ins), shown(node.outs), attrs)).encode(), digest_size=8).hexdigest()


def measuring_batch(plan: Plan, macs: int) -> int:
    """With how many samples to measure ``plan``'s kernel calls: all of them, fewer where a step is long or large.

    macs: of one sample's way forward; the way back takes twice as many.
    """
    per_sample = plan.unshared / plan.batch
    seconds = 3 * macs / _MACS_PER_SECOND + 2 * per_sample / _BYTES_PER_SECOND
    samples = min(_LONGEST / max(seconds, 1e-9), _LARGEST * plan.batch / max(plan.sizes["arena"], 1))
    return max(1, min(plan.batch, int(samples)))


def step_seconds(plan: Plan, costs: Mapping[str, float], batch: int) -> float | None:
    """Seconds of one training step; None where the cost of a kernel call is not known.

    costs: seconds by ``signature`` with ``batch`` samples, and of ``STEP``. A call that works on the batch takes as
    many times longer in the plan as it has more samples there.
    """
    total = costs.get(STEP)
    if total is None:
        return None
    for node in training_nodes(plan):
        cost = costs.get(signature(node, batch))
        if cost is None:
            return None
        works_on_batch = any(v.batched for v in (*node.ins, *node.outs))
        total += cost * plan.batch / batch if works_on_batch else cost
    return total
