"""What a plan will take, before it is bound."""

from __future__ import annotations

from cnnforge.plan.plan import Plan


def memory(*plans: Plan) -> dict[str, int]:
    """Bytes by purpose, for plans that share parameters and arena (training first, then evaluation).

    ``activations`` counts inputs, activations and their gradients as placed; ``workspace`` is what kernels need on top;
    ``state`` holds running statistics and the step block. ``total`` is exactly what binding allocates, and what
    resident memory grows by when steps run: kernels allocate nothing beside it.

    A run takes more than its plans: the interpreter with its libraries, the data set as it is stored, and for each
    split that is read one batch of pictures as stored, as float32, and of labels. Its evaluation plan, of the same
    batch, lies in the same arena and keeps no gradients, so counting it as well hardly ever changes the numbers.
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
