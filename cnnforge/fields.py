"""What a YAML value may be: the base class of everything in the config language, and its number types.

Strict where pydantic would guess (``true`` is not 1, ``5.0`` is not 5), lenient where the meaning is plain:
``1e-3``, which YAML 1.1 reads as text, is a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag
from pydantic.types import Strict
from pydantic_core import PydanticCustomError

from cnnforge.names import NAME_PATTERN

#: A number without its sign, where it is written as text.
NUMBER_PATTERN = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_NUMBER = re.compile(rf"[+-]?{NUMBER_PATTERN}")


class Spec(BaseModel):
    """Base of every config class: frozen, no extra keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    #: Required fields that may be left out where another has a value: ``{"filters": ("groups", "depthwise")}``.
    excused: ClassVar[Mapping[str, tuple[str, str]]] = {}


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def type_of(value: Any) -> str | None:
    """The discriminator of every union in the language: the text under ``type``."""
    tag = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return tag if isinstance(tag, str) else None


def tag(cls: type[Spec]) -> str:
    """The name that YAML gives a class: the one value its ``type`` may have."""
    return str(get_args(cls.model_fields["type"].annotation)[0])


@dataclass(frozen=True, slots=True)
class Short:
    """Short forms of a union: ``he`` for ``{type: he}``, and for some types ``{constant: 0.1}``.

    keys: (type, the field that its short form gives): ``("constant", "value")``
    """

    keys: tuple[tuple[str, str], ...] = ()

    def __call__(self, value: Any) -> Any:
        """The long form of ``value``, where it is a short one."""
        if isinstance(value, str):
            return {"type": value}
        if isinstance(value, dict) and len(value) == 1 and "type" not in value:
            ((key, inner),) = value.items()
            if name := dict(self.keys).get(key):
                return {"type": key, name: inner}
        return value


def one_of(classes: Sequence[type[Spec]], short: Short | None = None) -> Any:
    """A pydantic type that takes any of ``classes``, in ``short`` forms too, and tells them apart by ``type``.

    A callable discriminator gives one error for a wrong block, not one per member of the union.
    """
    union: Any = Annotated[Union[tuple(Annotated[c, Tag(tag(c))] for c in classes)], Discriminator(type_of)]  # noqa: UP007
    return union if short is None else Annotated[union, BeforeValidator(short)]


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
#: A name inside a composite block, where ``repeat`` counts from 1.
InnerName = Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_-]*|[1-9][0-9]*)$")]
_REFERENCE = r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$"
#: A layer by its name as the table shows it: ``conv1``, ``stage2.1.conv1``.
Reference = Annotated[str, StringConstraints(pattern=_REFERENCE)]
DECLARATION_PATTERN = r"^(int|float|bool|text|size)(?:\s*=\s*(.*\S))?\s*$"
#: A parameter of a template: ``int``, ``int = 3``, ``text = relu``: a type, and a default where it has one.
Declaration = Annotated[str, StringConstraints(pattern=DECLARATION_PATTERN)]
#: Units by what they multiply a number with.
COUNT_UNITS: Mapping[str, float] = {"k": 1e3, "M": 1e6, "G": 1e9}
BYTE_UNITS: Mapping[str, float] = {
    "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
TIME_UNITS: Mapping[str, float] = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
_AMOUNT = r"[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"


def _limit_pattern(units: Mapping[str, float]) -> str:
    one = rf"(?:<=|<|>=|>)\s*{_AMOUNT}\s*(?:{'|'.join(units)})?"
    return rf"^\s*{one}(?:\s*,\s*{one})*\s*$"


COUNT_LIMIT_PATTERN, BYTE_LIMIT_PATTERN, TIME_LIMIT_PATTERN = map(_limit_pattern, (COUNT_UNITS, BYTE_UNITS, TIME_UNITS))
_SPAN = rf"{_AMOUNT}\s*(?:{'|'.join(TIME_UNITS)})"
DURATION_PATTERN = rf"^\s*{_SPAN}(?:\s*{_SPAN})*\s*$"
#: What a value must keep to, ``<= 100_000``; several at once behind commas. ``spec.limits`` reads them.
CountLimit = Annotated[str, StringConstraints(pattern=COUNT_LIMIT_PATTERN)]
ByteLimit = Annotated[str, StringConstraints(pattern=BYTE_LIMIT_PATTERN)]
TimeLimit = Annotated[str, StringConstraints(pattern=TIME_LIMIT_PATTERN)]
#: A time as text: ``90 s``, ``1 h 30 min``.
Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN)]
#: What text of a pattern is, in words: one such text, and several.
TEXTS = {
    NAME_PATTERN: ("a name: letters, digits, _ and -, no digit first", "names"),
    _REFERENCE: ("a layer's name, such as conv1 or stage2.1.conv1", "names of layers, such as conv1, stage2.1.conv1"),
    DECLARATION_PATTERN: (
        "a type (int, float, bool, text or size) and a default where it has one, such as int = 3",
        "types",
    ),
    COUNT_LIMIT_PATTERN: ("a limit such as '<= 100_000' or '< 2 M' (k, M, G)", "limits"),
    BYTE_LIMIT_PATTERN: ("a limit such as '<= 16 MiB' (B, kB, MB, GB, KiB, MiB, GiB)", "limits"),
    TIME_LIMIT_PATTERN: ("a limit such as '< 90 s' (ms, s, min, h, d)", "limits"),
    DURATION_PATTERN: ("a time such as 90 s or 1 h 30 min (ms, s, min, h, d)", "times"),
}
Int = Annotated[int, Strict()]
PositiveInt = Annotated[int, Strict(), Field(gt=0)]
NonNegativeInt = Annotated[int, Strict(), Field(ge=0)]
Bool = Annotated[bool, Strict()]
Float = Annotated[float, Strict(), Field(allow_inf_nan=False), BeforeValidator(_number)]
PositiveFloat = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
NonNegativeFloat = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Fraction = Annotated[float, Strict(), Field(ge=0, lt=1), BeforeValidator(_number)]
Size = PositiveInt | tuple[PositiveInt, PositiveInt]


def mistake(what: str, why: str, fix: str, *at: str) -> PydanticCustomError:
    """What validators raise and ``config`` turns into an error of these words. at: keys from here to the place."""
    return PydanticCustomError("mistake", "{what}", {"what": what, "why": why, "fix": fix, "at": at})


def as_yaml(value: Any) -> str:
    """A value as YAML would write it, short."""
    if isinstance(value, str):
        text = f"'{value}'"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(as_yaml(inner) for inner in value) + "]"
    else:
        text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
