"""Folders outside the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Where what can be had again is kept: ``$XDG_CACHE_HOME/cnnforge``, else ``~/.cache/cnnforge``.

    The XDG base directory specification says to ignore a relative path.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path(os.path.expanduser("~/.cache"))) / "cnnforge"
