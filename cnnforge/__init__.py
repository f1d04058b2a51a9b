"""cnnforge: convolutional networks that are written down, not programmed.

``cnnforge.Model`` runs and trains a model from Python, ``cnnforge.check`` works out its table. Both load what they need
when they are first used, so importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnforge.model import Model
    from cnnforge.report.check import check

__all__ = ["Model", "__version__", "check"]


def __getattr__(name: str) -> Any:
    if name == "Model":
        from cnnforge.model import Model

        return Model
    if name == "check":
        from cnnforge.report.check import check

        return check
    if name == "__version__":
        from importlib.metadata import version

        return version("cnnforge")
    raise AttributeError(f"module 'cnnforge' has no attribute {name!r}")
