"""Names of layers, as readable as the file allows.

The best are the weights' own (``layer1.0.conv1.weight``), then the nodes' (``/layer1/layer1.0/conv1/Conv``); where
there is only a number, the layer is called by what it is: ``conv3``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cnnforge.export.onnx_import.read import OnnxNode

#: Last parts of weights' names.
_WEIGHTS = ("weight", "weights", "w", "kernel", "gamma", "scale", "alpha", "bias", "b", "kernel_0", "weight_quantized")
#: What YAML 1.1 reads as something else, and the model's own input.
_TAKEN = ("input", "y", "n", "yes", "no", "on", "off", "true", "false", "null", "none")
#: What layers without a name of their own are called.
_KINDS = {
    "activation": "act", "batch_norm": "norm", "group_norm": "norm", "layer_norm": "norm", "conv_transpose": "deconv",
    "global_pool": "pool", "affine": "scale", "channel_shuffle": "shuffle", "shortcut_pad": "shortcut",
}  # fmt: skip
_LONGEST = 60


@dataclass
class Names:
    """Gives each layer a name that no other has."""

    taken: set[str] = field(default_factory=set)

    def of_layer(self, n: OnnxNode, type: str, weights: str = "") -> str:
        """The name of a layer that was made of ``n``, or one of the kind and a number."""
        kind = _KINDS.get(type, type)
        if type == "merge":
            kind = {"Concat": "concat", "Mul": "product"}.get(n.op, "sum")
        name = _of_weights(weights) or _of_node(n)
        if name and name.lower() in _TAKEN:
            name += "_"
        if name and name in self.taken:
            name = f"{name}_{kind}"
        if not name or name in self.taken:
            name = self._numbered(name or kind)
        self.taken.add(name)
        return name

    def _numbered(self, stem: str) -> str:
        number = 1
        while f"{stem}{number}" in self.taken:
            number += 1
        return f"{stem}{number}"


def _of_weights(name: str) -> str:
    if ":" in name and not name.startswith("onnx::"):
        name = name.partition(":")[0]
    stem, dot, last = name.replace("/", ".").rpartition(".")
    return _clean(stem) if dot and last.lower() in _WEIGHTS else ""


def _of_node(n: OnnxNode) -> str:
    """``/layer1/layer1.0/conv1/Conv_3`` -> ``layer1_0_conv1``; ``pool1.max_pool2d`` -> ``pool1``."""
    name = n.name.partition(":")[0]
    if "/" in name:
        *parts, last = [part for part in name.split("/") if part]
        if not _is_op(last, n.op):
            parts.append(last)
        path: list[str] = []
        for part in parts:
            if path and part.startswith(f"{path[-1]}."):
                path.pop()
            path.append(part)
        return _clean(".".join(path))
    stem, dot, _ = name.rpartition(".")
    return _clean(stem if dot else "" if _is_op(name, n.op) else name)


def _is_op(text: str, op: str) -> bool:
    """``Conv``, ``Conv_12``, ``node_conv2d_3``: what a node does, not what it is called."""
    return bool(re.fullmatch(rf"(node_)?{op}(2d)?(_?\d+)*", text, re.IGNORECASE))


def _clean(text: str) -> str:
    """A name of our language, or nothing where no letter is left."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")
    if not re.search(r"[A-Za-z]", name) or re.fullmatch(r"(onnx_)?_?\d+", name):
        return ""
    if name[0].isdigit():
        name = f"layer_{name}"
    return name[-_LONGEST:].lstrip("_-0123456789") if len(name) > _LONGEST else name
