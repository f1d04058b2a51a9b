"""What goes element by element."""

from cnnforge.backends.numba.rules.base import Rule

#: Elements of one part of the range, a multiple of LANES: 16 KiB, so that a part's arrays stay in the first cache.
PIECE = 4096

RULES = dict.fromkeys(("reshape", "add", "multiply", "scale"), Rule())
