"""Norms over the batch, and the chains that have a kernel of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numba.rules.channels import rows, shard_sums
from cnnforge.backends.numba.rules.pool import halves
from cnnforge.shapes import Window


def _window(attrs: Mapping[str, Any]) -> Window:
    """Of the pooling in a chain."""
    (window,) = (part["window"] for _, _, part in attrs["parts"] if "window" in part)
    return window  # type: ignore[no-any-return]


_NORM = Rule(scratch=lambda i, o, a: (shard_sums(4, i[0]), rows(3, i[0])))
_INFERENCE = Rule(scratch=lambda i, o, a: (rows(3, i[0]),))
#: x is the third input of the chains, the first of the norm's gradient itself.
_MASKED = Rule(scratch=lambda i, o, a: (shard_sums(3, i[2]),))

RULES = {
    "batch_norm": _NORM,
    "batch_norm_inference": _INFERENCE,
    "batch_norm_dparams": Rule(scratch=lambda i, o, a: (shard_sums(3, i[0]),)),
    "batch_norm_dx": Rule(scratch=lambda i, o, a: (rows(4, i[0]),)),
    "batch_norm_running": Rule(),
    **{f"batch_norm+{tail}": _NORM for tail in ("relu", "relu6", "add", "add+relu")},
    **{f"batch_norm_inference+{tail}": _INFERENCE for tail in ("relu", "relu6", "add", "add+relu")},
    **{f"{function}_dx+batch_norm_dparams": _MASKED for function in ("relu", "relu6")},
    **{
        f"{norm}+max_pool2d{tail}": Rule(lambda i, o, a: halves(i[0], _window(a)), rule.scratch)
        for norm, rule in (("batch_norm", _NORM), ("batch_norm_inference", _INFERENCE))
        for tail in ("", "+relu", "+relu6")
    },
    "max_pool2d_dx+batch_norm_dparams": Rule(lambda i, o, a: halves(i[2], _window(a)), _MASKED.scratch),
    "max_pool2d_dx+batch_norm_dx": Rule(lambda i, o, a: halves(i[2], _window(a)), lambda i, o, a: (rows(4, i[2]),)),
}
