"""Warnings about a composed config, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cnnforge.config.composed import Composed
from cnnforge.errors import ConfigWarning
from cnnforge.spec import RunSpec, expand
from cnnforge.spec.lint import lint


def warnings(composed: Composed, run: RunSpec) -> list[ConfigWarning]:
    """As ``cnnforge.config.warnings``."""
    model = composed.tree.get("model")
    written = model if isinstance(model, Mapping) else {}
    expansion = expand(written)
    composed = replace(composed, origins=expansion.origins, callers=expansion.callers)
    return composed.located_warnings(lint(run, written))
