"""Where compiled kernels are kept: one object file each, in a folder that only the user may write to.

A file's name says which kernel it holds, and ends with a digest of all that its code was made from: the kernel's own
file, what that imports from here, the libraries' versions and the CPU. So nothing in the folder is ever out of date,
and every version of everything finds its own. A file begins with a digest of the rest, is written under another name
and then renamed: processes that begin together write the same twice, and one that dies leaves nothing that is taken for
whole. Object code is code: a stranger's folder is not used.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from time import time
from types import FunctionType
from typing import Any

from cnnforge.backends.numba import cpu
from cnnforge.backends.numba.language import Later
from cnnforge.folders import user_cache

#: Bytes of the digest that a file begins with.
_DIGEST = 32
#: Seconds after which a file that nobody read is removed, when another is written.
_UNUSED = 180 * 24 * 3600
#: What a file imports, at once or later.
_IMPORT = re.compile(r"^ *(?:from|import) ([\w.]+)(?: import (\([^)]*\)|.*))?", re.MULTILINE)

_noted: set[Path] = set()


def name_of(function: FunctionType) -> str:
    """What a kernel's object file and symbol are called: another name wherever the code may be another."""
    digest = blake2b(digest_size=12)
    for text in (*_environment(), *_sources(function.__module__), str(function.__code__.co_firstlineno)):
        digest.update(text.encode() + b"\0")
    for cell in function.__closure__ or ():
        digest.update(_told(cell.cell_contents).encode() + b"\0")
    where = re.sub(r"[^\w.]+", "_", f"{function.__module__}.{function.__qualname__}")
    return f"{where}-{digest.hexdigest()}"


def kept(name: str) -> bytes | None:
    """The object code of a kernel; None where there is none that may be used."""
    folder = _folder()
    try:
        if not _usable(folder):
            return None
        contents = (folder / f"{name}.o").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _not_kept(folder, _reason(error))
        return None
    code = contents[_DIGEST:]
    if contents[:_DIGEST] == _digest(name, code):
        return code
    _note(folder, f"the cache of compiled kernels was damaged and is made anew: {folder}")
    return None


def keep(name: str, code: bytes) -> None:
    """Keep the object code of a kernel, where that is possible."""
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _usable(folder):
            return
        handle, temporary = tempfile.mkstemp(suffix=".new", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(name, code) + code)
            os.replace(temporary, folder / f"{name}.o")
        except OSError:
            os.unlink(temporary)
            raise
        _prune(folder)
    except OSError as error:
        _not_kept(folder, _reason(error))


def _folder() -> Path:
    return user_cache() / "kernels"


def _usable(folder: Path) -> bool:
    status = folder.stat()
    if not hasattr(os, "getuid"):
        return True
    if status.st_uid != os.getuid():
        _not_kept(folder, "it belongs to someone else")
    elif status.st_mode & 0o022:
        _not_kept(folder, "others may write to it")
    else:
        return True
    return False


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _not_kept(folder: Path, why: str) -> None:
    _note(folder, f"compiled kernels are not kept, every run compiles them again: {folder}: {why}")


def _note(folder: Path, text: str) -> None:
    """Say something about the folder, once."""
    if folder not in _noted:
        _noted.add(folder)
        print(f"note: {text}", file=sys.stderr)


@cache
def _prune(folder: Path) -> None:
    """Remove what was not used for long: other versions, and what killed processes left."""
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # another process renamed or removed it
            status = file.stat()
            if max(status.st_atime, status.st_mtime) < time() - _UNUSED:
                file.unlink()


def _digest(name: str, code: bytes) -> bytes:
    return blake2b(name.encode() + b"\0" + code, digest_size=_DIGEST).digest()


@cache
def _environment() -> tuple[str, ...]:
    return (sys.platform, *map(str, sys.version_info[:2]), version("numba"), version("llvmlite"), *cpu.target())


@cache
def _sources(module: str) -> tuple[str, ...]:
    """Digests of a module's file and of all that it imports from its own package and from here, in order."""
    if _file(module) is None:
        raise TypeError(f"kernels are written in files, {module} has none")
    roots = {"cnnforge", module.partition(".")[0]}
    found, waiting = {module}, [module]
    while waiting:
        new = {name for name in _source(waiting.pop())[1] if name.partition(".")[0] in roots and _file(name)} - found
        found |= new
        waiting += new
    return tuple(f"{name} {_source(name)[0]}" for name in sorted(found))


@cache
def _source(module: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's file, and names that it imports: modules, and what may be modules."""
    file = _file(module)
    assert file is not None
    text = file.read_text(encoding="utf-8")
    return blake2b(text.encode(), digest_size=16).hexdigest(), frozenset(_imported(text))


def _imported(text: str) -> Iterator[str]:
    for package, names in _IMPORT.findall(text):
        yield package
        yield from (f"{package}.{name}" for name in re.findall(r"\w+", names))


@cache
def _file(module: str) -> Path | None:
    """Where a module is written, whether it is loaded or not; its outermost package is."""
    root, *parts = module.split(".")
    top = getattr(sys.modules.get(root), "__file__", None)
    if top is None or not parts:
        return top and Path(top)
    place = Path(top).parent.joinpath(*parts)
    return next((file for file in (place.with_name(f"{place.name}.py"), place / "__init__.py") if file.is_file()), None)


def _told(value: Any) -> str:
    """What a kernel's closure holds, so that different contents differ. Raises TypeError where that cannot be told."""
    if isinstance(value, Later) and value.function is not None:
        value = value.function
    if isinstance(value, FunctionType):
        cells: Iterable[Any] = (cell.cell_contents for cell in value.__closure__ or ())
        return (
            f"{value.__module__}.{value.__qualname__}:{value.__code__.co_firstlineno}({', '.join(map(_told, cells))})"
        )
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_told, value))}]"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(f"a kernel may not depend on {value!r} from the function around it: name it in the file")
