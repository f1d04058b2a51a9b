"""Norms within a sample."""

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numba.rules.channels import row_width, rows, shard_sums
from cnnforge.ir.op import Scratch

_SUMS = Rule(scratch=lambda i, o, a: (shard_sums(3, i[0]),))

RULES = {
    # The moments of every channel of every sample; then rows of numbers per channel.
    "group_norm": Rule(
        scratch=lambda i, o, a: (Scratch((i[0].shape[0], 4, row_width(i[0].shape[-1])), i[0].dtype), rows(3, i[0]))
    ),
    "group_norm_dx": Rule(scratch=lambda i, o, a: (rows(4, i[0]),)),
    "group_norm_dgamma": _SUMS,
    "layer_norm": Rule(),
    "layer_norm_dx": Rule(),
    "layer_norm_dgamma": _SUMS,
}
