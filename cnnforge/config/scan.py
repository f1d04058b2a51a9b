"""Reading one YAML text, before Hydra or pydantic see any of it.

The scan bounds what a text can cost (bytes, depth, nodes that aliases multiply), refuses what different readers read
differently, and notes the line and column of every key. It builds plain dicts and lists from the parser's events with
a stack of its own, so that no nesting can exhaust Python's, and no YAML tag can construct anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from cnnforge.config.interpolate import unsupported
from cnnforge.config.marks import Mark
from cnnforge.config.scalars import read
from cnnforge.errors import ConfigError, ConfigErrors, Path, dotted

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
#: Keys by which Hydra's ``instantiate`` would call Python objects. Configs never name any.
CALLS = frozenset({"_target_", "_args_", "_partial_", "_recursive_", "_convert_"})
_PACKAGE = re.compile(r"#\s*@package\s+(\S+)\s*")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake that reading could go on after. ``path`` is within its document."""

    path: Path
    mark: Mark
    what: str
    why: str
    fix: str

    def error(self, prefix: Path, hidden: int = 0) -> ConfigError:
        """As an error of a document that stands at ``prefix`` in the whole config, ``hidden`` keys of it not shown."""
        path = prefix + self.path
        where = f"{self.mark} ({dotted(path[hidden:])})" if path[hidden:] else str(self.mark)
        return ConfigError(self.what, where=where, why=self.why, fix=self.fix, path=path)


@dataclass(frozen=True, slots=True)
class Document:
    """One scanned text: its values, where each key is, what is wrong with it, and its ``# @package`` line."""

    source: str
    tree: dict[str, Any]
    marks: dict[Path, Mark]
    findings: tuple[Finding, ...] = ()
    package: str | None = None


def scan(data: bytes, source: str) -> Document:
    """Read one YAML mapping.

    Raises ConfigErrors (one error) where reading cannot go on: too large or deep, not UTF-8, not YAML, empty, or no
    mapping. Everything else that is wrong is in ``findings``.
    """
    text = _decoded(data, source)
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _syntax(error, text, source) from None
    if not builder.documents or builder.root is None:
        raise _stop(
            "the file is empty" if not text.strip() else "the file says nothing",
            Mark(source),
            "a config is a mapping, and there is none",
            "write at least one 'key: value', or remove the file",
        )
    if not isinstance(builder.root, dict):
        raise _stop(
            f"a config is a mapping of keys to values, not {_kind(builder.root)}",
            Mark(source, 1, 1),
            "every value needs a name",
            "write 'key: value' lines",
        )
    return Document(source, builder.root, builder.marks, tuple(builder.findings), _package(text))


def _decoded(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise _stop(
            "the file is too large for a config",
            Mark(source),
            f"{len(data):,} bytes, and at most {MAX_BYTES:,} are read",
            "split it into groups, or check that this is the file you mean",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start]
        column = len(head[head.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise _stop(
            "the file is not UTF-8 text",
            Mark(source, head.count(b"\n") + 1, column),
            f"byte 0x{data[error.start]:02x} does not belong there",
            "save it as UTF-8",
        ) from None


def _syntax(error: yaml.YAMLError, text: str, source: str) -> ConfigErrors:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a character that YAML never takes: the reader gives its position only
        position = getattr(error, "position", 0)
        at = next((i for i, c in enumerate(text) if ord(c) < 32 and c not in "\t\n\r"), position)
        head = text[:at]
        where = Mark(source, head.count("\n") + 1, at - head.rfind("\n"))
        return _stop("a control character in the file", where, "YAML is plain text", "remove the character")
    line = "".join(text.split("\n")[mark.line : mark.line + 1])
    problem = str(getattr(error, "problem", None) or "cannot be read")
    context = str(getattr(error, "context", None) or "")
    where = Mark(source, mark.line + 1, mark.column + 1)
    if "\t" in line[: mark.column + 1] and not line[: mark.column].strip():
        return _stop("a tab in the indentation", where, "YAML indents with spaces only", "replace the tab by spaces")
    if "maximum nesting depth" in problem:  # PyYAML's own bound, since 6.0.4, where brackets follow each other
        return _too_deep(where)
    fix = "check the brackets, colons and indentation around this line"
    if "mapping values are not allowed" in problem:
        fix = "put text that holds ': ' in quotes, and check the indentation"
    elif "expected ',' or" in problem:
        fix = "close the bracket, or put a comma between two entries"
    elif "cannot start any token" in problem:
        fix = f"put text that begins with '{line[mark.column : mark.column + 1]}' in quotes"
    return _stop(f"not YAML: {problem}", where, context or f"the line reads: {line.strip()}", fix)


def _too_deep(where: Mark) -> ConfigErrors:
    why = f"more than {MAX_DEPTH} levels of brackets or indentation"
    return _stop("nested too deeply", where, why, "check the brackets; no config needs that many")


def _package(text: str) -> str | None:
    """The package of a ``# @package NAME`` line among the comments at the top."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            break
        if found := _PACKAGE.fullmatch(line.strip()):
            return found[1]
    return None


def _stop(what: str, mark: Mark, why: str, fix: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(what, where=str(mark), why=why, fix=fix)])


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a single value"


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet. ``key`` waits for its value; ``first``: line of each key."""

    value: dict[str, Any] | list[Any]
    path: Path
    anchor: str | None
    nodes_before: int
    key: str | None = None
    first: dict[str, int] = field(default_factory=dict)


class _Builder:
    """Turns parser events into values, marks and findings."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root: Any = None
        self.documents = 0
        self.marks: dict[Path, Mark] = {}
        self.findings: list[Finding] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def take(self, event: Any) -> None:
        """Take the parser's next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                why = "a second document begins with this '---'"
                raise _stop("several documents in one file", self._mark(event), why, "one file for each")

    def _mark(self, event: Any) -> Mark:
        return Mark(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _stop(
                f"more than {MAX_NODES:,} values",
                self._mark(event),
                "aliases multiply what they stand for" if self._anchors else "a config is a short text",
                "write the values out, or fewer of them",
            )

    def _path(self) -> Path:
        """Where the next value goes."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.path, len(top.value) if isinstance(top.value, list) else str(top.key))

    def _find(self, event: Any, what: str, why: str, fix: str, path: Path | None = None) -> None:
        self.findings.append(Finding(self._path() if path is None else path, self._mark(event), what, why, fix))

    def _begin(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(self._mark(event))
        self._expect_value(event)
        self._count(event, 1)
        self._refuse_tag(event)
        path = self._path()
        if path and path not in self.marks:
            self.marks[path] = self._mark(event)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(value)
        self._stack.append(_Open(value, path, event.anchor, self._nodes - 1))

    def _end(self) -> None:
        done = self._stack.pop()
        if done.anchor:
            self._anchors[done.anchor] = (done.value, self._nodes - done.nodes_before)

    def _scalar(self, event: Any) -> None:
        self._count(event, 1)
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            self._begin_key(event)
            return
        path = self._path()
        if path not in self.marks:
            self.marks[path] = self._mark(event)
        self._refuse_tag(event)
        value: Any = event.value
        if not event.style and event.tag is None:  # plain: None from the Python parser, empty from libyaml
            value, complaint = read(event.value)
            if complaint:
                name = dotted(path[-2:]) if path else "the value"
                self._find(event, f"{name} cannot be {_cut(event.value)[1:-1]}", complaint.why, complaint.fix)
        if isinstance(value, str) and (problem := unsupported(value)):
            self._find(event, f"{_cut(value)} is not allowed", problem.why, problem.fix)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._put(value)

    def _begin_key(self, event: Any) -> None:
        top, key = self._stack[-1], str(event.value)
        path: Path = (*top.path, key)
        if key == "<<":
            self._find(event, "merge keys (<<) are not part of the language", "a layer stands for itself",
                       "write the keys out", path)  # fmt: skip
        if key in CALLS:
            self._find(event, f"'{key}' is not allowed", "configs never name Python objects, so that a stranger's "
                       "config can fail but never run code", "say what you mean with 'type:'", path)  # fmt: skip
        if key in top.first:
            self._find(event, f"'{key}' is given twice", f"it already stands in line {top.first[key]}",
                       "remove or rename one of them", path)  # fmt: skip
            for stale in [p for p in self.marks if p[: len(path)] == path]:
                del self.marks[stale]
        top.first[key] = event.start_mark.line + 1
        top.key = key
        self.marks[path] = self._mark(event)

    def _alias(self, event: Any) -> None:
        self._expect_value(event)
        if event.anchor not in self._anchors:
            raise _stop(
                f"*{event.anchor} stands for nothing",
                self._mark(event),
                "no value before this line is marked with that name, or it contains this very line",
                f"mark a value with &{event.anchor} first",
            )
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        if (path := self._path()) not in self.marks:
            self.marks[path] = self._mark(event)
        self._put(_copied(value))

    def _expect_value(self, event: Any) -> None:
        """Only a scalar can be a key."""
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            raise _stop("a key must be a name", self._mark(event), "a list, mapping or alias cannot be one",
                        "write 'name: value'; check the brackets before this place")  # fmt: skip

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._find(event, f"YAML tag {_cut(tag)} is not allowed", "configs are plain text, numbers, lists and "
                       "mappings, and never name Python objects", "remove the tag")  # fmt: skip

    def _put(self, value: Any) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            top.value[str(top.key)] = value
            top.key = None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _cut(text: str) -> str:
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}…'"
