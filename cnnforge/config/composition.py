"""Composing a run's config from its groups, an experiment and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as FilePath

from cnnforge.config import overrides as command_line
from cnnforge.config import plain
from cnnforge.config.composed import Composed
from cnnforge.config.counting import count_classes
from cnnforge.config.interpolate import resolve
from cnnforge.config.marks import Mark
from cnnforge.config.merging import Merge
from cnnforge.config.plain import Listing, Override
from cnnforge.config.sources import Repository, search_path
from cnnforge.errors import CnnforgeError, ConfigError, ConfigErrors, Path, suggest


def compose(texts: Sequence[str], config_dir: FilePath | None, config_name: str) -> Composed:
    """Compose ``config_name`` with the overrides ``texts``.

    Raises ConfigErrors where there is nothing to go on with: a file that cannot be read, an option that names none.
    """
    repository = Repository(search_path(config_dir))
    if not repository.has_config(config_name):
        folders = ", ".join(str(folder) for folder in repository.folders)
        why = "every run starts from it"
        raise ConfigErrors([ConfigError(f"{config_name}.yaml: no such config", where=folders, why=why, fix="train")])
    parsed, errors = command_line.parse(texts)
    if wrong := command_line.check_choices(parsed, repository):
        raise ConfigErrors([*errors, *wrong])
    choices = [override for override in parsed if command_line.is_choice(override, repository)]
    changes = [override for override in parsed if override not in choices]
    listing = _listing(repository, config_name, choices)
    merged = Merge()
    named = {override.key.split(".")[0] for override in parsed} | listing.chosen
    model_files: set[str] = set()
    for source in listing.sources:
        document = repository.document(source.config_path)
        if document is None:  # an optional one
            continue
        prefix: Path = tuple(source.package.split(".")) if source.package else ()
        body = {key: value for key, value in document.tree.items() if key != "defaults"}
        if not prefix and not source.is_root:
            named |= set(body)  # an experiment's own lines
        if prefix[:1] == ("model",):
            model_files.add(document.source)
        merged.add(body, prefix, document.marks)
        if prefix:  # what is missing from a file is missing there
            merged.marks.setdefault(prefix, Mark(document.source))
        errors += [finding.error(prefix) for finding in document.findings]
    if repository.errors:
        raise ConfigErrors([*repository.errors, *errors])
    errors += command_line.apply(changes, merged.tree, merged.write, merged.forget)
    tree, dangling = resolve(merged.tree)
    composed = Composed(tree, merged.marks, (), frozenset(named))
    found: list[CnnforgeError] = [*errors, *(error.located(composed.where(error.path)) for error in dangling)]
    return count_classes(Composed(tree, merged.marks, tuple(found), frozenset(named)), model_files)


def _listing(repository: Repository, root: str, choices: Sequence[Override]) -> Listing:
    """Which files make up the config. Hydra decides where the defaults lists or the choices are not plain."""
    options = {override.key: override.value for override in choices}
    if all(override.kind == "change" for override in choices):
        listing = plain.defaults_list(repository, root, options)
        if listing is not None:
            return listing
    try:
        from cnnforge.config import beyond
    except ImportError as error:
        why = f"the installed hydra-core does not have what defaults lists like these need: {error}"
        raise ConfigError(f"{root}.yaml: the config cannot be composed", where=root, why=why,
                          fix="pip install 'hydra-core>=1.3.8,<1.4'") from None  # fmt: skip
    try:
        return beyond.defaults_list(repository, root, [override.text for override in choices])
    except beyond.Missing as missing:
        group, _, option = missing.config_path.rpartition("/")
        mark = repository.marks.get(missing.config_path) or Mark(f"{root}.yaml")
        raise ConfigErrors(
            [*repository.errors, command_line.unknown_option(repository, group, option, str(mark))]
        ) from None
    except beyond.Refused as refused:
        document = repository.document(refused.within or root)
        where = str(command_line.place(refused.about)) if refused.about else document.source if document else root
        fix = _refused_fix(repository, refused.why, refused.about)
        problem = ConfigError("the config cannot be composed", where=where, why=refused.why, fix=fix)
        raise ConfigErrors([*repository.errors, problem]) from None


def _refused_fix(repository: Repository, why: str, about: str) -> str:
    """What to do about Hydra's complaint ``why``; ``about``: the override that it names."""
    group = about.lstrip("+~").partition("=")[0]
    if about.startswith("+"):
        return f"{about.lstrip('+')} changes the option that is there"
    if about and "No match in the defaults list" in why:
        return f"'+{about}' adds a group that the defaults list does not name"
    near = suggest(group, [known for known in repository.groups() if known != group]) if about else ""
    return near or "check the defaults lists and the group overrides"
