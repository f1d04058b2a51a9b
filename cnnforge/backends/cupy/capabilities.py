"""What the cupy backend can do. Imports neither NumPy nor CuPy: planning reads only this and the op files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cnnforge.backends.cupy import library
from cnnforge.backends.cupy.chains import CHAINS
from cnnforge.backends.cupy.conv import KERNELS as CONVOLUTIONS
from cnnforge.backends.cupy.ops import KERNELS, SCRATCH
from cnnforge.backends.numpy.capabilities import CAPABILITIES as NUMPY
from cnnforge.ir.graph import Value
from cnnforge.ir.op import Scratch
from cnnforge.ir.precision import PRECISIONS
from cnnforge.plan.capabilities import Capabilities


def scratch(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[Scratch, ...]:
    """Workspace of a node; a chain needs what its head needs."""
    if "+" in op:
        op, own, head = attrs["parts"][0]
        ins, attrs = ins[:own], {**head, "way": attrs.get("way", library.OWN)}
    return SCRATCH[op](ins, outs, attrs) if op in SCRATCH else ()


def ways(op: str, ins: tuple[Value, ...], outs: tuple[Value, ...], attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a node can be computed where there is a library; of a chain, by what its head can."""
    if "+" in op:
        op, own, attrs = attrs["parts"][0]
        ins = ins[:own]
    return library.ways(op, ins, outs, attrs) if op in CONVOLUTIONS else ()


#: What an element-wise op may overwrite, a chain may that begins with it.
_INPLACE = {op: index for op, index in NUMPY.inplace.items() if op in KERNELS}


CAPABILITIES = Capabilities(
    name="cupy",
    precisions=tuple(PRECISIONS),
    ops=frozenset(KERNELS),
    chains=CHAINS,
    scratch=scratch,
    inplace={**_INPLACE, **{c: _INPLACE[c.split("+")[0]] for c in CHAINS if c.split("+")[0] in _INPLACE}},
    tallies=True,
    native=True,
)

#: With a library of convolutions, which does a few of the chains in one kernel.
WITH_LIBRARY = replace(CAPABILITIES, ways=ways)


def capabilities() -> Capabilities:
    """The same for every card. Ops that installed packages add have no kernels here."""
    return WITH_LIBRARY if library.installed() else CAPABILITIES
