"""What Numba has to know of the vectors of ``vectors``: their types, and what the operators do. Imports Numba."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import register_model

from cnnforge.backends.numba.vectors import BITS, FLAGS, INTS, VECTOR


class _Vector(types.Type):  # type: ignore[misc]
    """A Numba type that is one LLVM vector."""


class _LanesType(_Vector):
    pass


class _IntsType(_Vector):
    pass


class _MaskType(_Vector):
    pass


Lanes, Ints, Mask = _LanesType("Lanes"), _IntsType("Ints"), _MaskType("Mask")


def _model(kind: type[_Vector], shape: ir.Type) -> None:
    @register_model(kind)
    class Model(PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, fe_type: Any) -> None:
            super().__init__(manager, fe_type, shape)


_model(_LanesType, VECTOR)
_model(_IntsType, INTS)
_model(_MaskType, BITS)


def _operator(function: Any, result: Any, kinds: tuple[Any, ...], generate: Callable[..., ir.Value]) -> None:
    @infer_global(function)
    class Typed(ConcreteTemplate):  # type: ignore[misc]
        cases: ClassVar[list[Any]] = [signature(result, *kinds)]

    @lower_builtin(function, *kinds)
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return generate(builder, *arguments)


_ARITHMETIC = (
    (operator.add, operator.iadd, "add"), (operator.sub, operator.isub, "sub"), (operator.mul, operator.imul, "mul"),
)  # fmt: skip
for _plain, _assigned, _name in _ARITHMETIC:
    for _which in (_plain, _assigned):
        _operator(_which, Lanes, (Lanes, Lanes), lambda b, x, y, name=_name: getattr(b, "f" + name)(x, y, flags=FLAGS))
        _operator(_which, Ints, (Ints, Ints), lambda b, x, y, name=_name: getattr(b, name)(x, y))
_operator(operator.truediv, Lanes, (Lanes, Lanes), lambda b, x, y: b.fdiv(x, y, flags=FLAGS))
_COMPARISONS = (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
)  # fmt: skip
for _which, _sign in _COMPARISONS:
    _operator(_which, Mask, (Lanes, Lanes), lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y))
    _operator(_which, Mask, (Ints, Ints), lambda b, x, y, sign=_sign: b.icmp_signed(sign, x, y))
for _kind in (Mask, Ints):
    _operator(operator.and_, _kind, (_kind, _kind), lambda b, x, y: b.and_(x, y))
    _operator(operator.or_, _kind, (_kind, _kind), lambda b, x, y: b.or_(x, y))
_operator(operator.xor, Ints, (Ints, Ints), lambda b, x, y: b.xor(x, y))
_operator(operator.lshift, Ints, (Ints, Ints), lambda b, x, y: b.shl(x, y))
_operator(operator.rshift, Ints, (Ints, Ints), lambda b, x, y: b.ashr(x, y))
_operator(operator.neg, Lanes, (Lanes,), lambda b, x: b.fneg(x))
