"""``python -m cnnforge`` is ``cnnforge``."""

from __future__ import annotations

import sys

from cnnforge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
