"""Activation functions. Softmax, which is by rows, is with the losses."""

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.ir.vjp import FROM_INPUT, FROM_OUTPUT

RULES = {op + end: Rule() for op in (*FROM_OUTPUT, *FROM_INPUT) if op != "softmax" for end in ("", "_dx")}
