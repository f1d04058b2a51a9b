"""How a weight begins: ``init: he``, ``init: {constant: 0.1}``, ``init: {filter: sobel_vertical}``.

Each draw depends on the seed, the parameter's name and nothing else, so editing one layer leaves the others' weights
as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from cnnforge.fields import one_of
from cnnforge.init.base import Init
from cnnforge.init.constant import Constant, Ones, Zeros
from cnnforge.init.filter import FILTERS, Filter
from cnnforge.init.scaled import Glorot, GlorotNormal, He, HeUniform

__all__ = [
    "FILTERS",
    "AnyInit",
    "Constant",
    "Filter",
    "Glorot",
    "GlorotNormal",
    "He",
    "HeUniform",
    "Init",
    "Ones",
    "Zeros",
]


def _short(value: Any) -> Any:
    """``he`` -> ``{type: he}``; ``{constant: 0.1}`` -> ``{type: constant, value: 0.1}``; likewise ``filter``."""
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict) and len(value) == 1 and "type" not in value:
        ((key, inner),) = value.items()
        if field := {"constant": "value", "filter": "name"}.get(key):
            return {"type": key, field: inner}
    return value


if TYPE_CHECKING:
    AnyInit = Init
else:
    AnyInit = Annotated[
        one_of((He, HeUniform, Glorot, GlorotNormal, Zeros, Ones, Constant, Filter)), BeforeValidator(_short)
    ]
