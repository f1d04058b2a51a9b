"""What the cupy backend can do. Imports neither NumPy nor CuPy: planning reads only this and the op files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.backends.cupy.ops import KERNELS, SCRATCH
from cnnforge.backends.numpy.capabilities import CAPABILITIES as NUMPY
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.ir.precision import PRECISIONS
from cnnforge.plan.capabilities import Capabilities


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a chain needs what its parts need, in their order."""
    if "+" not in op:
        return SCRATCH[op](ins, outs, attrs) if op in SCRATCH else ()
    (head, taken, head_attrs), *rest = attrs["parts"]
    wanted = scratch(head, ins[:taken], outs, head_attrs)
    for part, extra, part_attrs in rest:
        wanted += scratch(part, (outs[0], *ins[taken : taken + extra]), outs, part_attrs)
        taken += extra
    return wanted


#: The numpy backend's chains, run part by part: every part but the first overwrites what the one before wrote.
CAPABILITIES = Capabilities(
    name="cupy",
    precisions=tuple(PRECISIONS),
    ops=frozenset(KERNELS),
    chains=frozenset(chain for chain in NUMPY.chains if KERNELS.keys() >= set(chain.split("+"))),
    scratch=scratch,
    inplace={op: index for op, index in NUMPY.inplace.items() if op in KERNELS},
    tallies=True,
)


def capabilities() -> Capabilities:
    """The same for every card. Ops that installed packages add have no kernels here."""
    return CAPABILITIES
