"""Optimizers."""

from cnnforge.backends.numba.rules.base import Rule
from cnnforge.backends.numpy.capabilities import OPTIMIZERS

RULES = dict.fromkeys(OPTIMIZERS, Rule())
