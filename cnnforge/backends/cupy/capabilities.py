"""What the cupy backend can do. Imports neither NumPy nor CuPy: planning reads only this and the op files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cnnforge.backends.cupy import library
from cnnforge.backends.cupy.conv import KERNELS as CONVOLUTIONS
from cnnforge.backends.cupy.ops import KERNELS, SCRATCH
from cnnforge.backends.numpy.capabilities import CAPABILITIES as NUMPY
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import Capabilities


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a chain needs what its parts need, in their order."""
    if "+" not in op:
        return SCRATCH[op](ins, outs, attrs) if op in SCRATCH else ()
    (head, taken, head_attrs), *rest = attrs["parts"]
    wanted = scratch(head, ins[:taken], outs, {**head_attrs, "way": attrs.get("way", library.OWN)})
    for part, extra, part_attrs in rest:
        wanted += scratch(part, (outs[0], *ins[taken : taken + extra]), outs, part_attrs)
        taken += extra
    return wanted


def ways(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a node can be computed where there is a library; of a chain, by what its first part can."""
    if "+" in op:
        head, taken, attrs = attrs["parts"][0]
        op, ins = head, ins[:taken]
    return library.ways(op, ins, outs, attrs) if op in CONVOLUTIONS else ()


#: The numpy backend's chains, run part by part: every part but the first overwrites what the one before wrote.
CAPABILITIES = Capabilities(
    name="cupy",
    precisions=NUMPY.precisions,
    ops=frozenset(KERNELS),
    chains=frozenset(chain for chain in NUMPY.chains if KERNELS.keys() >= set(chain.split("+"))),
    scratch=scratch,
    inplace={op: index for op, index in NUMPY.inplace.items() if op in KERNELS},
    native=True,
)

#: With a library of convolutions, which does a few chains in one kernel.
WITH_LIBRARY = replace(
    CAPABILITIES,
    ways=ways,
    chains=CAPABILITIES.chains | {"+".join(("conv2d", *names)) for names in library.FUSED},
)


def capabilities() -> Capabilities:
    """The same for every card. Ops that installed packages add have no kernels here."""
    return WITH_LIBRARY if library.installed() else CAPABILITIES
