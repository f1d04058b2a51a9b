"""Matrix products."""

from cnnforge.backends.numba.rules.base import Rule

RULES = dict.fromkeys(("matmul", "matmul_dx", "matmul_dw"), Rule())
