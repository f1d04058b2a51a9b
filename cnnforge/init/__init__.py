"""How a weight begins: ``init: he``, ``init: {constant: 0.1}``, ``init: {filter: sobel_vertical}``.

Each draw depends on the seed, the parameter's name and nothing else, so editing one layer leaves the others' weights
as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnforge.fields import Short, one_of
from cnnforge.init.base import Init
from cnnforge.init.constant import Constant, Ones, Zeros
from cnnforge.init.filter import FILTERS, Filter
from cnnforge.init.scaled import Glorot, GlorotNormal, He, HeUniform, PyTorch

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
    "PyTorch",
    "Zeros",
]


if TYPE_CHECKING:
    AnyInit = Init
else:
    AnyInit = one_of(
        (He, HeUniform, Glorot, GlorotNormal, PyTorch, Zeros, Ones, Constant, Filter),
        Short((("constant", "value"), ("filter", "name"))),
    )
