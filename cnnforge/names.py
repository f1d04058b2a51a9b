"""What a name may be: of layers, runs, configs and groups."""

from __future__ import annotations

#: Letters, digits, _ and -, no digit or - first.
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]*$"
