"""What the docstrings of config classes say: of a class, and of each field in its ``field: meaning`` lines."""

from __future__ import annotations

import re
from inspect import cleandoc

from cnnforge.fields import Spec

#: ``name: text``, ``name, other: text``; of the config classes these are the lines that begin so.
_LINE = re.compile(r"([a-z]\w*(?:, [a-z]\w*)*):\s+(\S.*)")


def summary(cls: type[Spec]) -> str:
    """What a class's docstring says before its fields, as one paragraph per paragraph."""
    lines: list[str] = []
    for line in _lines(cls):
        if _fields(cls, line):
            break
        lines.append(line)
    paragraphs = "\n".join(lines).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def meanings(cls: type[Spec]) -> dict[str, str]:
    """Field -> what it means, of the class itself and of those it builds on."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if issubclass(owner, Spec):
            found.update(_own(owner, cls))
    return {name: text for name, text in found.items() if name in cls.model_fields}


def _own(cls: type[Spec], whole: type[Spec]) -> dict[str, str]:
    found: dict[str, str] = {}
    names: list[str] = []
    for line in _lines(cls):
        if here := _fields(whole, line):
            parts = re.split(r";\s+(?=[a-z]\w*: )", line)  # several on one line
            for part in parts:
                names = _fields(whole, part)
                said = part.partition(":")[2].strip()
                each = said.split(", ")
                texts = each if len(names) > 1 and len(each) == len(names) else [said] * len(names)
                found.update(zip(names, texts, strict=True))
        elif line.startswith(" ") and names:
            for name in names:
                found[name] += " " + line.strip()
        elif not here:
            names = []
    return {name: " ".join(text.split()) for name, text in found.items()}


def _fields(cls: type[Spec], line: str) -> list[str]:
    """The fields that a line of the docstring is about; none where it is no such line."""
    match = _LINE.match(line)
    names = match[1].split(", ") if match else []
    return names if all(name in cls.model_fields for name in names) else []


def _lines(cls: type[Spec]) -> list[str]:
    own = cls.__dict__.get("__doc__")
    return cleandoc(own).splitlines() if own else []
