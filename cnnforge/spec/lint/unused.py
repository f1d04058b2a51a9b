"""What is written and has no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cnnforge.spec.expressions import is_expression, names
from cnnforge.spec.lint.net import Finding, Net
from cnnforge.spec.templates import TEMPLATES


def dead_branch(net: Net) -> Iterator[Finding]:
    """A layer whose output nothing reads, and which is not the last."""
    for number, row in net.numbered():
        if not net.readers[number] and row is not net.rows[-1]:
            yield Finding(
                f"{row.name}: nothing reads its output",
                row.path,
                f"the network's output is that of {net.rows[-1].name}",
                "leave it out, or name it in the 'input' or 'inputs' of a later layer",
            )


def unused_template(net: Net) -> Iterator[Finding]:
    """A template that no layer and no other template uses."""
    templates = _templates(net.written)
    for name in templates:
        others = [net.written.get("layers"), *(body for other, body in templates.items() if other != name)]
        # A type may also come through a parameter, so the name counts wherever it stands.
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for text in _texts(others)):
            yield Finding(
                f"templates.{name}: no layer uses it",
                (*TEMPLATES, name),
                f"'{name}' stands nowhere in layers, nor in another template",
                f"leave it out, or write type: {name} where it is meant",
            )


def unused_parameter(net: Net) -> Iterator[Finding]:
    """A parameter that no expression of its template uses."""
    for name, body in _templates(net.written).items():
        used = {
            n for text in _texts([body.get("layers"), body.get("block")]) if is_expression(text) for n in names(text)
        }
        for parameter in body.get("parameters") or {}:
            if parameter not in used:
                yield Finding(
                    f"templates.{name}: its parameter '{parameter}' changes nothing",
                    (*TEMPLATES, name, "parameters", parameter),
                    f"no field of the template says ={parameter}",
                    f"leave it out, or write ={parameter} where it is meant",
                )


def _templates(written: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return written.get("templates") or {}


def _texts(value: Any) -> Iterator[str]:
    """Every text within ``value``, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
