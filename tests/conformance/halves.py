"""A case in a half type: what of it is half, and how near it has to come.

Activations and their gradients are half; parameters, statistics, gradients of parameters and what is kept beside an
activation are float32, as in a mixed graph. Everything is computed in float32 and rounded once, where it is written. So
beside the same in float64, from the same rounded inputs, a result may be off by

* what float32's conformance allows: ``WIDE_ERROR`` of the result and of the size of what was added up, and
* in a half output, half a unit in the last place: the unit roundoff of the result (``ROUNDOFF``), or half of the
  smallest subnormal number.

Sums of small whole numbers are exact before they are rounded, so they have to be the rounded sum to the bit.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tests import one_node
from tests.conformance.cases import CASES, Case

HALVES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
#: 2^-(digits of the significand, the first one included); half of the smallest number; the largest one.
ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
LEAST = {"bfloat16": 2.0**-134, "float16": 2.0**-25}
MOST = {"bfloat16": 3.38e38, "float16": 65504.0}
WIDE_ERROR = 2e-5

#: Which inputs and which outputs of an op are float32 beside half ones.
WIDE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "bias": ((1,), ()), "bias_db": ((), (0,)), "prelu": ((1,), ()), "prelu_dx": ((1,), ()), "prelu_dalpha": ((), (0,)),
    "batch_norm": ((1, 2), (1, 2, 3)), "batch_norm_inference": ((1, 2, 3, 4), ()),
    "batch_norm_dparams": ((1, 2), (0, 1)), "batch_norm_dx": ((1, 2, 3, 4, 5), ()), "batch_norm_parts": ((1,), (0, 1)),
    "fold_batch_norm": ((0, 1, 2, 3, 4, 5), (1,)),
    **{f"{norm}{end}": wide for norm in ("group_norm", "layer_norm")
       for end, wide in (("", ((1, 2), (1, 2))), ("_dx", ((1, 2, 3), ())), ("_dgamma", ((1, 2), (0,))))},
    "lrn": ((), (1,)), "lrn_dx": ((1,), ()),
}  # fmt: skip

#: What a mixed graph has in float32 alone: losses, which read logits that were cast back, what processes tell each
#: other, and what is done to parameters, gradients and running state.
FLOAT32 = frozenset(
    op for op in CASES
    if op.startswith(("softmax_cross", "soft_cross", "sigmoid_cross", "weighted_sigmoid_cross", "mse", "clip_"))
) | {
    "class_targets", "mixed_targets", "label_weights", "gather_ranks", "batch_norm_running", "batch_norm_merge",
    "average", "gather", "take", "sgd", "rmsprop", "adam", "adamw", "lamb", "muon", "tally", "scale_loss", "guard",
}  # fmt: skip
#: Ops that are there for half types alone.
CASTS = frozenset({"cast"})
OPS = tuple(sorted(CASES.keys() - FLOAT32 - CASTS))


def _typed(number: int, array: Any, wide: tuple[int, ...], half: str) -> Any:
    """An input as it is given to the kernel."""
    return array.astype(HALVES[half]) if array.dtype == np.float32 and number not in wide else array


def narrowed(op: str, ins: list[Any], outs: list[Any], half: str) -> tuple[list[Any], list[Any]]:
    """A case's float32 inputs and outputs as a mixed graph has them."""
    wide_ins, wide_outs = WIDE.get(op, ((), ()))
    typed = [_typed(i, a, wide_ins, half) for i, a in enumerate(ins)]
    written = [
        (out[0], half) if isinstance(out, tuple) and out[1] == "float32" and i not in wide_outs else out
        for i, out in enumerate(outs)
    ]
    return typed, written


def exactly(op: str, ins: list[Any], outs: list[Any], attrs: dict[str, Any]) -> list[Any]:
    """What the numpy backend makes of the same numbers in float64."""
    doubles = [a.astype(np.float64) if a.dtype in (np.float32, *HALVES.values()) else a for a in ins]
    written = [
        (out[0], "float64") if isinstance(out, tuple) and out[1] in ("float32", *HALVES) else out for out in outs
    ]
    return one_node.run(op, doubles, written, attrs, "numpy")


def assert_near(op: str, case: Case, half: str, backend: str) -> None:
    """See above."""
    ins, outs = narrowed(op, case.ins, case.outs, half)
    expected = exactly(op, ins, outs, case.attrs)
    for got, wanted in zip(one_node.run(op, ins, outs, case.attrs, backend), expected, strict=True):
        if wanted.dtype != np.float64:
            np.testing.assert_array_equal(got, wanted)
        elif case.exact:
            np.testing.assert_array_equal(got, wanted.astype(got.dtype))
        else:
            rounded = got.dtype in HALVES.values()
            far = WIDE_ERROR * 1.01
            np.testing.assert_allclose(
                got.astype(np.float64), wanted,
                rtol=far + (ROUNDOFF[half] if rounded else 0), atol=far * case.scale + (LEAST[half] if rounded else 0),
            )  # fmt: skip
