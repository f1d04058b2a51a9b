"""What a kernel does to each number before it stores it: the element-wise parts that follow a chain's head.

Such a kernel has ``AND_TAIL`` at the end of its parameters and stores ``TAIL(value, i, c)``: i counts what is written,
c is the channel. Both are defined in front of its source, which is compiled once for every tail (``signature.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Function:
    """``name(v, what lies beside v, numbers)`` of ``source/functions.cuh``.

    beside: of an array that is read as well: the number of the same cell, or of the channel, where there is one
    numbers: how many there are
    """

    name: str
    beside: Literal["", "cell", "channel"] = ""
    numbers: int = 0


@dataclass(frozen=True, slots=True)
class Tail:
    """Functions in their order.

    args: their arrays and numbers, which follow the kernel's own: of each function its array first
    """

    functions: tuple[Function, ...] = ()
    args: tuple[Any, ...] = ()

    def __add__(self, after: Tail) -> Tail:
        return Tail((*self.functions, *after.functions), (*self.args, *after.args))


NOTHING = Tail()


def declared(functions: tuple[Function, ...]) -> str:
    """What kernels' ``AND_TAIL`` and ``TAIL`` stand for. Arrays by cell are of activations, all else of parameters."""
    parameters: list[str] = []
    names: list[str] = []
    body: list[str] = []
    for function in functions:
        given = ["v"]
        for what in filter(None, (function.beside, *["number"] * function.numbers)):
            name = f"tail_{len(names)}"
            names.append(name)
            parameters.append({"cell": "const T* ", "channel": "const P* ", "number": "P "}[what] + name)
            given.append({"cell": f"{name}[i]", "channel": f"{name}[c]", "number": name}[what])
        body.append(f"        v = {function.name}({', '.join(given)});")
    return "\n".join(
        (
            f"#define AND_TAIL {''.join(f', {parameter}' for parameter in parameters)}",
            f"#define TAIL Tail{{{', '.join(names)}}}",
            "struct Tail {",
            *(f"    {parameter};" for parameter in parameters),
            "    __device__ inline P operator()(P v, i64 i, int c) const {",
            *body,
            "        return v;",
            "    }",
            "};",
        )
    )
