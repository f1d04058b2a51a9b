"""Activation functions."""

from cnnforge.backends.numba.rules.base import Rule

RULES = {op + end: Rule() for op in ("relu", "relu6", "hard_sigmoid") for end in ("", "_dx")}
