"""``init_from:`` first weights that another net has learned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from cnnforge.fields import Bool, Spec


class InitFrom(Spec):
    """The first weights come from another net, by name; what it does not have is drawn as always.

    Text alone is its ``source``.

    source: a run (folder, name below ``run.dir``, MLflow id, ``latest``), a saved model's folder, a .safetensors file
    match: only tensors with such names in this net, e.g. ``[stem.*, stage?.*]``; ``*`` any text, ``?`` one letter
    map: how the file names its tensors: ``none`` as this net, ``torchvision`` as its state_dicts do, layouts converted
    strict: a tensor that is not there, or there in another shape, is an error, not a note
    """

    source: str
    match: tuple[str, ...] = ("*",)
    map: Literal["none", "torchvision"] = "none"
    strict: Bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """``runs/a`` for ``{source: runs/a}``, and one pattern for a list of one."""
        if isinstance(value, str):
            return {"source": value}
        if isinstance(value, dict) and isinstance(value.get("match"), str):
            return value | {"match": [value["match"]]}
        return value
