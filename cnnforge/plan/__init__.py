"""Planning: which kernels run in which order, and where every byte lies. No arrays, no devices."""

from cnnforge.ir.op import Scratch
from cnnforge.plan.capabilities import Capabilities
from cnnforge.plan.plan import PHASES, Place, Plan, PlannedNode, Segment, make_plan, named, require_precision

__all__ = [
    "PHASES",
    "Capabilities",
    "Place",
    "Plan",
    "PlannedNode",
    "Scratch",
    "Segment",
    "make_plan",
    "named",
    "require_precision",
]
