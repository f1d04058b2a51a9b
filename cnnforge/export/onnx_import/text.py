"""A network as a YAML file for people: a line for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnforge.shapes import Shape


def yaml_text(name: str, origin: str, input: Shape, layers: Mapping[str, Mapping[str, Any]]) -> str:
    """origin: the file's name, for the comment at the top;  input: (H, W, C);  layers: as under ``model.layers``"""
    safe = "".join(c if c.isprintable() else "?" for c in origin)
    lines = [f"# Imported from {safe}.", f"name: {name}", f"input: {_value([*input])}", "layers:"]
    lines += [f"  {layer}: {_value(fields)}" for layer, fields in layers.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Names, numbers, truth values, lists and mappings of them: nothing here needs quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(int(value)) if isinstance(value, int) else str(value)
