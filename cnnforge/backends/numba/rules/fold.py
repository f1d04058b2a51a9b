"""Weights that norm as well."""

from cnnforge.backends.numba.rules.base import Rule

RULES = {"fold_batch_norm": Rule()}
