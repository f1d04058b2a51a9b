"""Writing plain values as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cnnforge.config.scalars import read


class _Dumper(yaml.SafeDumper):
    """Quotes every text that our own reader would not read back as that text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    value, complaint = read(text)
    plain = value == text and isinstance(value, str) and complaint is None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


_Dumper.add_representer(str, _text)


def to_yaml(tree: Mapping[str, Any]) -> str:
    """Block style, lists and innermost mappings on one line, keys in their own order."""
    return yaml.dump(
        dict(tree), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=2**16
    )
