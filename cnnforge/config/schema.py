"""Asking the pydantic classes what may stand at a place of the config, and saying it in words."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from cnnforge.errors import Path
from cnnforge.fields import TEXTS, Spec, tag, type_of
from cnnforge.names import NAME_PATTERN


def is_spec(kind: Any) -> bool:
    """Is it one of our config classes?"""
    return isinstance(kind, type) and issubclass(kind, Spec)


def members(kind: Any) -> list[Any]:
    """What a type may be, without ``Annotated`` and None: the members of a union, or the type alone."""
    kind = bare(kind)
    if get_origin(kind) in (Union, UnionType):
        return [inner for arg in get_args(kind) for inner in members(arg)]
    return [] if kind is NoneType else [kind]


def bare(kind: Any) -> Any:
    """``Annotated[int, Gt(0)]`` -> ``int``."""
    return bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def chosen(kind: Any, value: Any) -> Any:
    """The type that ``value`` is of: the only one there is, or the member of a union of blocks that its ``type`` names.

    None where it names none; a union of other types as it is.
    """
    options = members(kind)
    if len(options) == 1:
        return options[0]
    name = type_of(value)
    classes = [option for option in options if is_spec(option)]
    return next((cls for cls in classes if tag(cls) == name), None) if classes else bare(kind)


def at(root: Any, tree: Any, path: Path) -> Any:
    """The type of what stands at ``path``, of which ``tree`` says the ``type`` of every block on the way; else None."""
    kind, value = root, tree
    for key in path:
        owner = chosen(kind, value)
        if is_spec(owner):
            field = owner.model_fields.get(str(key))
            if field is None:
                return None
            kind = typed(field)
        elif get_origin(owner) is dict:
            kind = get_args(owner)[1]
        else:
            return None
        value = value.get(key) if isinstance(value, dict) else None
    return kind


def typed(field: FieldInfo) -> Any:
    """A field's whole type, its constraints included."""
    kind: Any = field.annotation
    for extra in field.metadata:
        kind = Annotated[kind, extra]
    return kind


def fields(kind: Any) -> list[str]:
    """The keys that a class knows, its own before those of every block."""
    if not is_spec(kind):
        return []
    own = [name for name in kind.__annotations__ if name in kind.model_fields]
    return own + [name for name in kind.model_fields if name not in own]


def has_free_keys(kind: Any) -> bool:
    """Is it a mapping whose keys the user makes up, such as ``layers``?"""
    return get_origin(bare(kind)) is dict


def item(kind: Any) -> Any:
    """The class of which a list may hold any number; None where it holds something else, or is no list."""
    inner = bare(kind)
    listed = get_origin(inner) is tuple and get_args(inner)[-1] is Ellipsis
    return get_args(inner)[0] if listed and is_spec(get_args(inner)[0]) else None


def tags(kind: Any) -> list[str]:
    """The names that ``type`` may have."""
    return [tag(option) for option in members(kind) if is_spec(option) and "type" in option.model_fields]


def words(kind: Any) -> list[str]:
    """The texts that a type takes, where it takes given ones: of Literals, and short forms of ``type``."""
    texts = [str(text) for option in members(kind) if get_origin(option) is Literal for text in get_args(option)]
    return texts + tags(kind)


def is_name(kind: Any) -> bool:
    """Is it text that must be a name?"""
    return any(_limits(option).get("pattern") == NAME_PATTERN for option in _annotated_members(kind))


def describe(kind: Any) -> str:
    """A type in words: ``a whole number above 0, or a list of 2 such``."""
    texts = words(kind)
    parts: list[str] = []
    single = f"one of {', '.join(texts)}" if texts else ""
    options = _annotated_members(kind)
    for option in options:
        inner = bare(option)
        if get_origin(inner) is tuple and bare(get_args(inner)[0]) in [bare(other) for other in options]:
            parts.append(f"a list of {_length(inner)}such")
        elif is_spec(inner) and not texts:
            parts.append(f"a mapping of {', '.join(inner.model_fields)}")
        elif get_origin(inner) is not Literal and not is_spec(inner):
            parts.append(_noun(option))
    return ", or ".join(part for part in (single, *dict.fromkeys(parts)) if part)


def _length(kind: Any) -> str:
    """``3 `` for a tuple of three, nothing for one of any length."""
    return "" if get_args(kind)[-1] is Ellipsis else f"{len(get_args(kind))} "


def _annotated_members(kind: Any) -> list[Any]:
    """As ``members``, constraints kept."""
    inner = bare(kind)
    if get_origin(inner) in (Union, UnionType):
        return [option for arg in get_args(inner) for option in _annotated_members(arg)]
    return [] if inner is NoneType else [kind]


def _noun(kind: Any, several: bool = False) -> str:
    inner, limits = bare(kind), _limits(kind)
    if get_origin(inner) is tuple:
        length = _length(inner) or (f"{limits['min_length']} or more " if "min_length" in limits else "")
        return f"{'lists' if several else 'a list'} of {length}{_noun(get_args(inner)[0], several=True)}"
    if get_origin(inner) is dict:
        return _mapping(get_args(inner)[1])
    if get_origin(inner) in (Literal, Union, UnionType):
        return describe(kind).removeprefix("one of ")
    if inner is bool:
        return "true or false"
    if inner is str:
        text, texts = TEXTS.get(str(limits.get("pattern")), ("text", "texts"))
        return texts if several else text
    if is_spec(inner):
        return f"mapping{'s' * several} of {', '.join(inner.model_fields)}"
    if inner is Any:
        return "values" if several else "any value"
    noun = {int: "whole number", float: "number"}.get(inner, str(inner))
    noun = f"{noun}s" if several else f"a {noun}"
    if "ge" in limits and "lt" in limits:
        return f"{noun} from {limits['ge']:g} to below {limits['lt']:g}"
    if "gt" in limits:
        return f"{noun} above {limits['gt']:g}"
    return f"{noun} of {limits['ge']:g} or more" if "ge" in limits else noun


def _mapping(kind: Any) -> str:
    """A mapping in words, by the type of its values."""
    inner = bare(kind)
    if inner is Any:
        return "a mapping"
    if is_spec(inner):
        name = inner.__name__.lower()
        return f"a mapping of names to {name.removesuffix('is') + 'es' if name.endswith('is') else name + 's'}"
    if get_origin(inner) is dict:
        return "a mapping of names to mappings of layers"
    if inner is str:
        return f"a mapping of names, each to {_noun(kind)}"
    return "a mapping of names to layers"


def _limits(kind: Any) -> dict[str, Any]:
    """The constraints of an ``Annotated`` type by name: gt, ge, lt, pattern, min_length."""
    found: dict[str, Any] = {}
    while get_origin(kind) is Annotated:
        for extra in kind.__metadata__:
            for item in extra.metadata if isinstance(extra, FieldInfo) else (extra,):
                for name in ("gt", "ge", "lt", "pattern", "min_length"):
                    if (limit := getattr(item, name, None)) is not None:
                        found[name] = limit
        kind = get_args(kind)[0]
    return found
