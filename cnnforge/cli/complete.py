"""What a shell asks after TAB: ``cnnforge complete LINE`` prints every word that the last one of LINE may become.

A person waits for it: only the modules that the place in the line needs are imported, and mistakes are silent.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.cli.main import COMMANDS, module_of, parser_of
from cnnforge.errors import CnnforgeError

if TYPE_CHECKING:
    from types import ModuleType

#: An argument that names a run, as its command's help shows it; a sweep's are runs too.
RUN, SWEEP, GROUP = "RUN", "SWEEP", "GROUP"


def answer(line: str) -> list[str]:
    """The completions of the last word of ``line``, which is the command as typed up to the cursor."""
    words = _words(line)
    if not words:
        return []
    try:
        return [found for found in _candidates(words[:-1], words[-1]) if found.startswith(words[-1])]
    except (CnnforgeError, OSError, SystemExit):  # a shell has no place for errors
        return []


def _words(line: str) -> list[str]:
    """The words behind the program's name, the one at the cursor last (empty behind a space); quotes may be open."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        if line[-1:].isspace() and not closing:
            words.append("")
        named = next((i for i, word in enumerate(words) if not re.match(r"[A-Za-z_]\w*=", word)), len(words))
        return words[named + 1 :]
    return []


def _candidates(before: Sequence[str], word: str) -> list[str]:
    if not before:
        return [*COMMANDS, "--help", "--version"]
    name, *rest = before
    if name not in COMMANDS:
        return []
    module = module_of(name)
    parser = parser_of(name, module)
    given: list[str] = []
    flags: dict[str, str] = {}
    pending: argparse.Action | None = None
    for one in rest:
        below = _below(parser, given)
        if below is not None and one in below:
            parser, given = below[one], []
        elif pending is not None:
            flags[pending.dest], pending = one, None
        elif one.startswith("-"):
            flag, is_set, value = one.partition("=")
            pending = _taking(parser, flag)
            if is_set and pending is not None:
                flags[pending.dest], pending = value, None
        else:
            given.append(one)
    place = _Place(name, module, given, flags)
    if pending is not None:
        return place.values(pending)
    if word.startswith("-") and "=" in word:
        flag = word.partition("=")[0]
        action = _taking(parser, flag)
        return [f"{flag}={value}" for value in place.values(action)] if action is not None else []
    if word.startswith("-"):
        return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    return place.positional(parser, word)


def _below(parser: argparse.ArgumentParser, given: Sequence[str]) -> dict[str, argparse.ArgumentParser] | None:
    """The parsers of a command's own commands (``runs list``), where one of them comes next."""
    action = _next(parser, given)
    return dict(action.choices) if isinstance(action, argparse._SubParsersAction) else None


def _next(parser: argparse.ArgumentParser, given: Sequence[str]) -> argparse.Action | None:
    """The argument that the next word without a flag is."""
    arguments = [action for action in parser._actions if not action.option_strings]
    single = [action for action in arguments if action.nargs not in ("*", "+", argparse.REMAINDER)]
    if len(given) < len(single) and len(given) < len(arguments) and arguments[len(given)] in single:
        return arguments[len(given)]
    return next((action for action in arguments if action not in single), None)


def _taking(parser: argparse.ArgumentParser, flag: str) -> argparse.Action | None:
    """The flag's action where a value follows it."""
    found = (action for action in parser._actions if flag in action.option_strings)
    return next((action for action in found if action.nargs != 0), None)


class _Place:
    """Where in a command the word stands.

    name, module: of the command
    given: the words before it that are no flags;  flags: by destination, the values that flags have been given
    """

    def __init__(self, name: str, module: ModuleType, given: Sequence[str], flags: dict[str, str]) -> None:
        self.name, self.module, self.given, self.flags = name, module, given, flags

    def positional(self, parser: argparse.ArgumentParser, word: str) -> list[str]:
        if self.name == "sweep" and (found := self._of_a_sweep(word)) is not None:
            return found
        action = _next(parser, self.given)
        if action is None:
            return []
        if action.dest == "overrides":
            return self._overrides(word)
        return self.values(action)

    def values(self, action: argparse.Action) -> list[str]:
        """What an argument or flag may be given; nothing for paths, which shells complete themselves.

        The words of an argument ACTION may also stand in its command's module, as ``ACTIONS``.
        """
        words = action.choices or getattr(self.module, f"{action.metavar}S", None)
        if words is not None:
            return [str(word) for word in words]
        if action.metavar in (RUN, SWEEP):
            return self._runs(sweeps=action.metavar == SWEEP)
        if action.metavar == GROUP:
            from cnnforge.config.sources import Repository, shipped

            return [*Repository([shipped()]).groups(), "train"]
        return []

    def _overrides(self, word: str) -> list[str]:
        from cnnforge.config.completing import complete

        config_dir = self.flags.get("config_dir")
        others = [one for one in self.given if "=" in one or one.startswith("~")]
        return complete(word, others, Path(config_dir) if config_dir else None)

    def _of_a_sweep(self, word: str) -> list[str] | None:
        """``report SWEEP`` and ``resume=SWEEP``; None where it is about neither."""
        if list(self.given) == ["report"]:
            return self._runs(sweeps=True)
        if word.startswith("resume="):
            return [f"resume={name}" for name in self._runs(sweeps=True)]
        if not self.given:
            return [*self._overrides(word), "report", "resume="]
        return None

    def _runs(self, sweeps: bool) -> list[str]:
        """The names below the folder of runs, the newest first."""
        from cnnforge.tracking.family import JOURNAL, TRIALS

        folder = Path(self.flags.get("dir", "runs"))
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if os.path.isfile(os.path.join(entry.path, JOURNAL))]
        if sweeps:
            found = [entry for entry in found if os.path.isdir(os.path.join(entry.path, TRIALS))]
        found.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        return [entry.name for entry in found]
