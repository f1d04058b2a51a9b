"""Everything that can go wrong and be said clearly.

The tree::

    CnnforgeError              what, where, why, fix; never shown as a traceback
    ├── ConfigError        2   a mistake in the config or the command
    │   ├── ShapeError     2   the architecture cannot be built from the given input shape
    │   ├── UnknownName    2   a key, a layer or a group's option that is not there
    │   └── ConfigWarning  2   it works, and is hardly what was meant; raised by ``check --strict`` only
    ├── ConfigErrors       2   several of them, found in one pass
    ├── BackendError       2   the backend or precision asked for is not available
    ├── DataError          3   data missing or unreadable
    ├── CheckpointError    3   a checkpoint or saved model is missing, foreign or damaged
    ├── DivergedError      4   the loss is not finite any more
    └── InterruptedRun   130   Ctrl-C; 143 for SIGTERM; a checkpoint was written
        └── PrunedRun    130   a sweep gave it up; never seen outside of one

The number is the process exit code. ``ShapeError`` must never subclass ``ValueError``: pydantic would swallow it
and lose ``where``, ``why`` and ``fix``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

#: A place in the config tree: keys and list indices, e.g. ``("model", "layers", "conv2", "kernel")``.
Path = tuple[str | int, ...]


class CnnforgeError(Exception):
    """Base of every error that a user can cause.

    what:  one line, e.g. ``conv2: a 5x5 window does not fit a 4x4 input``
    where: file:line:column and the key, or whatever names the place; filled in later for config errors
    why:   the rule that was broken, with the numbers
    fix:   what to change
    path:  the place in the config tree, from which ``config`` works out ``where``
    context: what else belongs on the ``where`` line, e.g. ``input (4, 4, 6)``
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, what: str, *, where: str = "", why: str = "", fix: str = "", path: Path = (), context: str = ""
    ) -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        self.path, self.context = path, context
        super().__init__(what)

    def located(self, where: str) -> CnnforgeError:
        """The same error with its place filled in."""
        return type(self)(self.what, where=where, why=self.why, fix=self.fix, path=self.path, context=self.context)

    def to_dict(self) -> dict[str, str]:
        """For ``--json``: the same four parts."""
        return {"what": self.what, "where": self._where(), "why": self.why, "fix": self.fix}

    def _where(self) -> str:
        return ", ".join(part for part in (self.where or dotted(self.path), self.context) if part)

    def _headline(self) -> str:
        return self.what

    def __str__(self) -> str:
        rows = (("where", self._where()), ("why", self.why), ("fix", self.fix))
        return "\n".join([self._headline(), *(f"  {name + ':':<6} {text}" for name, text in rows if text)])


class ConfigError(CnnforgeError):
    """A mistake in the config or in the command line."""

    exit_code = 2


class ShapeError(ConfigError):
    """The architecture cannot be built from the given input shape."""


class UnknownName(ConfigError):
    """A key, a layer or a group's option that is not there: a sweep cannot vary what no point has."""


class ConfigWarning(ConfigError):
    """What can be built and trained, and is hardly what was meant.

    rule: the short name of the rule that it breaks; see ``cnnforge.spec.lint``
    """

    def __init__(
        self, what: str, *, rule: str, where: str = "", why: str = "", fix: str = "", path: Path = (), context: str = ""
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix, path=path, context=context)
        self.rule = rule

    def located(self, where: str) -> ConfigWarning:
        return ConfigWarning(
            self.what, rule=self.rule, where=where, why=self.why, fix=self.fix, path=self.path, context=self.context
        )

    def to_dict(self) -> dict[str, str]:
        """For ``--json``: the four parts of an error, and the rule."""
        return super().to_dict() | {"rule": self.rule}

    def _headline(self) -> str:
        return f"{self.what} [{self.rule}]"


class ConfigErrors(CnnforgeError):
    """Every mistake found in one pass. ``errors``: at least one ``CnnforgeError``."""

    exit_code = 2

    def __init__(self, errors: Sequence[CnnforgeError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(self.errors)} mistakes" if len(self.errors) > 1 else self.errors[0].what)

    def __str__(self) -> str:
        return "\n\n".join(str(error) for error in self.errors)


class BackendError(CnnforgeError):
    """The backend, device or precision asked for is not available here."""

    exit_code = 2


class DataError(CnnforgeError):
    """Data missing, unreadable, or not what it says it is."""

    exit_code = 3


class CheckpointError(CnnforgeError):
    """A checkpoint or saved model is missing, belongs to another model, or is damaged."""

    exit_code = 3


class DivergedError(CnnforgeError):
    """Training produced a loss that is not a finite number."""

    exit_code = 4


class InterruptedRun(CnnforgeError):
    """The run was stopped from outside after its checkpoint was written."""

    exit_code = 130


class PrunedRun(InterruptedRun):
    """The sweep that the run belongs to has better ones at this epoch."""


class TerminatedRun(InterruptedRun):
    """The run received SIGTERM; its checkpoint was written."""

    exit_code = 143


def dotted(path: Path) -> str:
    """``("model", "layers", "conv2")`` -> ``model.layers.conv2``; a list index reads ``input[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def closest(word: str, known: Iterable[str]) -> str:
    """The one of ``known`` that ``word`` was probably meant to be; an empty string where none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def suggest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'filters'?`` where one of ``known`` is close to ``word``, else an empty string."""
    meant = closest(word, known)
    return f"did you mean '{meant}'?" if meant else ""
