"""Where config files are looked for: the user's folder before the shipped one, every file through our scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import cnnforge
from cnnforge.config.marks import Mark, shown
from cnnforge.config.scan import Document, Finding, scan
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, Path
from cnnforge.names import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN.removesuffix("$"))


def shipped() -> FilePath:
    """The folder of the configs that come with cnnforge: inside the package in a wheel, beside it in a checkout."""
    package = FilePath(cnnforge.__file__).resolve().parent
    return next(
        folder for folder in (package / "configs", package.parent / "configs") if (folder / "train.yaml").is_file()
    )


def search_path(config_dir: FilePath | None) -> tuple[FilePath, ...]:
    """The user's folder (``./configs`` where it exists and none is given) before the shipped one.

    Raises ConfigError where the given folder does not exist.
    """
    own = FilePath("configs") if config_dir is None else config_dir
    if config_dir is not None and not own.is_dir():
        raise ConfigError(
            f"{config_dir}: no such folder",
            where=f"--config-dir {config_dir}",
            why="your own config groups are looked for in a folder",
            fix="a folder that holds model/, data/ …; cnnforge init DIR makes one, DIR/configs",
        )
    base = shipped()
    return (own, base) if own.is_dir() and own.resolve() != base.resolve() else (base,)


def is_name(text: str) -> bool:
    """May ``text`` (``lenet``, ``vision/lenet``) name a config? Nothing that leaves the folder may."""
    return all(_NAME.fullmatch(part) for part in text.split("/"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a defaults list: ``model: lenet`` (or ``override /model: lenet``), a config's own name, or ``_self_``.

    group is None for the last two; option is None for ``experiment: null``
    """

    group: str | None
    option: str | None
    override: bool = False
    optional: bool = False

    @property
    def is_self(self) -> bool:
        return self.group is None and self.option == "_self_"


class Repository:
    """The files of a search path.

    errors: files that cannot be read at all, and lines of defaults lists that say nothing
    marks:  where a defaults list names a config: ``model/lenet`` -> mark
    """

    def __init__(self, folders: Sequence[FilePath]) -> None:
        self.folders = tuple(folders)
        self.errors: list[CnnforgeError] = []
        self.marks: dict[str, Mark] = {}
        self._documents: dict[str, Document | None] = {}
        self._entries: dict[str, list[Entry]] = {}

    def document(self, config_path: str) -> Document | None:
        """The scanned file of ``model/lenet``, from the first folder that has it; None where none has."""
        if config_path not in self._documents:
            file = self._find(config_path)
            self._documents[config_path] = None if file is None else self._read(file)
        return self._documents[config_path]

    def has_config(self, config_path: str) -> bool:
        return self._find(config_path) is not None

    def has_group(self, group: str) -> bool:
        return is_name(group) and any((folder / group).is_dir() for folder in self.folders)

    def options(self, group: str) -> list[str]:
        """The configs of a group."""
        found = (file.stem for folder in self.folders for file in (folder / group).glob("*.yaml"))
        return sorted({name for name in found if is_name(name)})

    def groups(self) -> list[str]:
        """The names of all groups."""
        found = (entry.name for folder in self.folders for entry in folder.iterdir() if entry.is_dir())
        return sorted({name for name in found if is_name(name)})

    def entries(self, config_path: str) -> list[Entry]:
        """The defaults list of a file; empty where it has none."""
        if config_path not in self._entries:
            document = self.document(config_path)
            self._entries[config_path] = [] if document is None else self._parsed(document)
        return self._entries[config_path]

    def _find(self, config_path: str) -> FilePath | None:
        if not is_name(config_path):
            return None
        candidates = (folder / f"{config_path}.yaml" for folder in self.folders)
        return next((file for file in candidates if file.is_file()), None)

    def _read(self, file: FilePath) -> Document:
        try:
            return scan(file.read_bytes(), shown(file))
        except ConfigErrors as error:
            self.errors += error.errors
        except OSError as error:
            why = error.strerror or str(error)
            self.errors.append(
                ConfigError(f"{file.name} cannot be read", where=shown(file), why=why, fix="check its permissions")
            )
        return Document(shown(file), {}, {})  # so that the other files are read too, and their mistakes found

    def _parsed(self, document: Document) -> list[Entry]:
        listed = document.tree.get("defaults", [])
        if not isinstance(listed, list):
            self._refuse(document, ("defaults",), "defaults must be a list", "it names the configs to start from")
            return []
        entries = (self._entry(document, ("defaults", i), item) for i, item in enumerate(listed))
        return [entry for entry in entries if entry is not None]

    def _entry(self, document: Document, path: Path, item: object) -> Entry | None:
        mark = document.marks.get(path, Mark(document.source))
        if isinstance(item, str) and is_name(item.removeprefix("/")):
            self.marks.setdefault(item.removeprefix("/"), mark)
            return Entry(None, item)
        if isinstance(item, dict) and len(item) == 1:
            ((words, option),) = item.items()
            *keywords, group = words.split(" ")
            known = set(keywords) <= {"optional", "override"} and is_name(group.removeprefix("/"))
            if known and (option is None or (isinstance(option, str) and is_name(option))):
                self.marks.setdefault(f"{group.removeprefix('/')}/{option}", mark)
                return Entry(group, option, "override" in keywords, "optional" in keywords)
        why = "an entry is 'group: option', 'override /group: option', a config's name, or _self_"
        self._refuse(document, path, f"not an entry of a defaults list: {item}", why)
        return None

    def _refuse(self, document: Document, path: Path, what: str, why: str) -> None:
        mark = document.marks.get(path, Mark(document.source))
        self.errors.append(Finding(path, mark, what, why, "for example '- model: lenet'").error(()))
