"""``image_folder`` and ``manifest``: the user's own picture files, decoded once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import archive, decoded, files
from cnnforge.data.dataset import Split, Stored
from cnnforge.data.pictures import DAMAGE, ENDINGS, Form, decode, strictly, trouble
from cnnforge.errors import DataError, suggest
from cnnforge.spec import ManifestData, PicturesSpec

Tell = Callable[[str], None]

#: Folders that are parts of a data set and not classes.
PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
#: Pictures that are being decoded at a time, so that an archive does not fill the memory while they wait.
WAITING = 256
#: Pictures from which on it is worth keeping what was decoded.
WORTH = 1000


@dataclass
class _Found:
    """A picture file: which part and class it is of, and its decoded array, or why there is none."""

    name: str
    part: str
    label: str
    array: NDArray[np.uint8] | None = None
    trouble: str = ""


@dataclass
class _Reading:
    """All that was found."""

    found: list[_Found] = field(default_factory=list)
    others: int = 0
    digest: str = ""


def read(data: PicturesSpec, input: tuple[int, int, int], tell: Tell) -> Stored:
    """The pictures, as large as they are, or as ``size`` and ``fit`` say.

    input: (H, W, C) of the model;  tell: is told what takes long
    """
    path = archive.find(data.type, data.path, data.root)
    channels = data.channels or (1 if input[2] == 1 else 3)
    settings = {"size": data.size, "fit": data.fit, "channels": channels, "type": data.type, "input": input[:2]}
    place = decoded.place(archive.listing(path), path, settings) if data.cache else None
    kept = decoded.load(place) if place is not None else None
    if kept is None:
        kept = _decoded(data, path, Form(data.size, data.fit, channels), input, tell)
        if place is not None and len(kept.names) >= WORTH:
            decoded.keep(place, kept, tell)
    if kept.troubles and data.on_error == "error":
        name, why = kept.troubles[0]
        more = f", nor can {len(kept.troubles) - 1} others" if len(kept.troubles) > 1 else ""
        raise DataError(
            f"{name} cannot be read as a picture{more}",
            where=f"{files.shown(path)}",
            why=why,
            fix="remove or replace it, or leave such files out: data.on_error: skip",
        )
    return _stored(data, path, kept)


def _decoded(data: PicturesSpec, path: Path, form: Form, input: tuple[int, int, int], tell: Tell) -> decoded.Kept:
    source = _of_manifest(path) if isinstance(data, ManifestData) else _of_folder(path)
    reading = _read_all(source, form, tell, path)
    sizes = {f.array.shape[:2] for f in reading.found if f.array is not None}
    notes: list[str] = []
    if len(sizes) > 1:
        # Only now is it known that they are not alike: bring them to the model's input, from their files again.
        size = (input[0], input[1])
        notes.append(f"pictures of {len(sizes)} sizes -> {size[0]}x{size[1]}: {form.fit}")
        again = Form(size, form.fit, form.channels)
        source = _of_manifest(path) if isinstance(data, ManifestData) else _of_folder(path)
        reading = _read_all(source, again, tell, path)
    if not isinstance(data, ManifestData) and (top := _around_all(f.name for f in reading.found)):
        for found in reading.found:
            place = _place(found.name, top)
            assert place is not None
            found.label = place[1]
    reading.found.sort(key=lambda f: (f.part, f.label, f.name))
    good = [f for f in reading.found if f.array is not None]
    if not good:
        raise _nothing(path, reading, isinstance(data, ManifestData))
    if reading.others:
        notes.append(f"{reading.others:,} other files left alone")
    return decoded.Kept(
        x=np.stack([f.array for f in good if f.array is not None]),
        names=tuple(f.name for f in good), parts=tuple(f.part for f in good), labels=tuple(f.label for f in good),
        digest=reading.digest, notes=tuple(notes),
        troubles=tuple((f.name, f.trouble) for f in reading.found if f.array is None),
    )  # fmt: skip


def _nothing(path: Path, reading: _Reading, is_manifest: bool) -> DataError:
    if reading.found:
        first = reading.found[0]
        return DataError(
            f"none of {len(reading.found)} files can be read as a picture",
            where=files.shown(path), why=f"{first.name}: {first.trouble}", fix="check the files",
        )  # fmt: skip
    wanted = "its lines name no files" if is_manifest else "a folder for each class is wanted, with pictures in it"
    return DataError(
        f"{path.name}: there are no pictures",
        where=files.shown(path),
        why=f"{wanted}; {reading.others:,} other files are there",
        fix="CLASS/NAME.png, or train/CLASS/NAME.png and test/CLASS/NAME.png; names end in " + ", ".join(ENDINGS[:7]),
    )


def class_names(kind: str, path: Path) -> tuple[str, ...]:
    """The names of the classes that a folder, an archive or a manifest has, sorted, without reading a picture.

    kind: ``image_folder`` or ``manifest``. Raises DataError where it is damaged or unreadable, or there are none.
    """
    if kind == "manifest":
        labels = {label for _, _, label, _ in _lines(path)}
    else:
        labels = {label for _, label in places(path).values()}
    if not labels:
        others = 0 if kind == "manifest" else sum(1 for _ in archive.names(path))
        raise _nothing(path, _Reading(others=others), kind == "manifest")
    return tuple(sorted(labels))


def places(path: Path) -> dict[str, tuple[str, str]]:
    """(part, class) of every picture file of a folder or archive, by its name, without reading one."""
    names = list(archive.names(path))
    top = _around_all(names)
    return {name: place for name in names if (place := _place(name, top)) is not None}


def _place(name: str, top: int = 0) -> tuple[str, str] | None:
    """(part, class) of the file that has this name in a folder; None where it is no picture file of a class.

    top: folders around those of the classes
    """
    parts = PurePosixPath(name).parts
    part = next((i for i, step in enumerate(parts[:2]) if step.lower() in PARTS), None)
    inside = parts[part + 1 :] if part is not None else parts
    if len(inside) < 2 + top or not name.lower().endswith(ENDINGS):
        return None
    return PARTS[parts[part].lower()] if part is not None else "", inside[top]


def _around_all(names: Iterable[str]) -> int:
    """1 where one folder holds all pictures, in folders of its own, as an archive of a folder does; else 0."""
    pictures = {name: place[1] for name in names if (place := _place(name)) is not None}
    return int(len(set(pictures.values())) == 1 and all(_place(name, 1) is not None for name in pictures))


def _of_folder(path: Path) -> Iterator[tuple[str, str, str, bytes | None]]:
    """(name, part, class, content); content None for what is no picture file of a class."""
    for name, content in archive.members(path):
        place = _place(name)
        yield (name, *place, content) if place is not None else (name, "", "", None)


def _of_manifest(path: Path) -> Iterator[tuple[str, str, str, bytes | None]]:
    for name, part, label, number in _lines(path):
        try:
            yield name, part, label, (path.parent / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{name} is not there", where=f"{files.shown(path)}:{number}", why=error.strerror or str(error),
                fix="paths in the file are relative to it",
            ) from None  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """(name, part, class, number of the line) of each line of a manifest."""
    where = files.shown(path)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name} cannot be read", where=where, why=str(getattr(error, "strerror", None) or error),
            fix="a CSV file in UTF-8 with the header path,label",
        ) from None  # fmt: skip
    lines = csv.DictReader(io.StringIO(text))
    if not {"path", "label"} <= set(lines.fieldnames or ()):
        raise DataError(
            f"{path.name} has no columns path and label", where=f"{where}:1",
            why=f"its first line is {','.join(lines.fieldnames or ()) or 'empty'}", fix="the header path,label[,split]",
        )  # fmt: skip
    for line in lines:
        name, label = (line.get("path") or "").strip(), (line.get("label") or "").strip()
        part = (line.get("split") or "").strip().lower()
        if not name or not label or (part and part not in PARTS):
            raise DataError(
                f"{path.name}: line {lines.line_num} says no picture", where=f"{where}:{lines.line_num}",
                why=f"path '{name}', label '{label}', split '{part}'",
                fix="a path, a label, and for split train, val, test or nothing",
            )  # fmt: skip
        yield name, PARTS.get(part, ""), label, lines.line_num


def _read_all(source: Iterable[tuple[str, str, str, bytes | None]], form: Form, tell: Tell, path: Path) -> _Reading:
    reading, waiting = _Reading(), list[tuple[_Found, Future[NDArray[np.uint8]]]]()
    digests: list[tuple[str, bytes]] = []

    def settle(count: int) -> None:
        for found, future in waiting[:count]:
            try:
                found.array = future.result()
            except DAMAGE as error:
                found.trouble = trouble(error)
        del waiting[:count]

    told = False
    with strictly(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for name, part, label, content in source:
            if content is None:
                reading.others += 1
                continue
            found = _Found(name, part, label)
            reading.found.append(found)
            digests.append((name, sha256(content).digest()))
            waiting.append((found, pool.submit(decode, content, form)))
            if len(waiting) >= WAITING:
                settle(WAITING // 2)
            if len(reading.found) == WORTH and not told:
                told = True
                tell(f"reading the pictures of {path.name}")
        settle(len(waiting))
    whole = sha256()
    for name, digest in sorted(digests):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
    reading.digest = whole.hexdigest()
    return reading


def _stored(data: PicturesSpec, path: Path, kept: decoded.Kept) -> Stored:
    names = _classes(data, path, kept)
    numbers = {name: i for i, name in enumerate(names)}
    y = np.array([numbers[label] for label in kept.labels], np.int64)
    classes = names
    if data.positive:
        y = np.isin(y, [numbers[name] for name in data.positive]).astype(np.int64)
        classes = ("other", " or ".join(data.positive))
    parts = np.array([part or "train" for part in kept.parts])
    files_named = np.array(kept.names, np.object_)

    def split(part: str) -> Split | None:
        rows = parts == part
        return Split(kept.x[rows], y[rows], files_named[rows]) if rows.any() else None

    train = split("train")
    if train is None:
        raise DataError(
            f"{path.name}: no training pictures", where=files.shown(path),
            why=f"there are parts {', '.join(sorted(set(parts)))}, and no train", fix="train/CLASS/NAME.png",
        )  # fmt: skip
    skipped = len(kept.troubles)
    notes = (*kept.notes, f"{skipped:,} broken pictures left out") if skipped else kept.notes
    test = split("test")
    return Stored(
        source=files.shown(path), digest=kept.digest, train=train, validation=split("val"), test=test,
        test_share=0.0 if test is not None else data.test, classes=len(classes), class_names=tuple(classes),
        notes=tuple(notes),
    )  # fmt: skip


def _classes(data: PicturesSpec, path: Path, kept: decoded.Kept) -> Sequence[str]:
    """Names by number. Raises DataError where those that are there are not those that the config says."""
    there = sorted(set(kept.labels))
    names = tuple(data.classes) if isinstance(data.classes, tuple) else tuple(there)
    if other := [name for name in there if name not in names]:
        raise DataError(
            f"{data.type}: pictures of a class that data.classes does not name: {', '.join(other[:5])}",
            where=files.shown(path), why=f"data.classes names {', '.join(names)}",
            fix=suggest(other[0], names) or f"add {other[0]}, or take the pictures away",
        )  # fmt: skip
    if isinstance(data.classes, int) and data.classes != len(there):
        raise DataError(
            f"{data.type}: {len(there)} classes are there, and data.classes is {data.classes}",
            where=files.shown(path), why=f"they are {', '.join(there[:12])}{', …' if len(there) > 12 else ''}",
            fix=f"data.classes={len(there)}",
        )  # fmt: skip
    if unknown := [name for name in data.positive if name not in names]:
        raise DataError(
            f"{data.type}: there is no class {unknown[0]}", where=files.shown(path),
            why=f"the classes are {', '.join(names[:12])}", fix=suggest(unknown[0], names) or "one of them",
        )  # fmt: skip
    return names
