"""Decoded pictures, kept in the user's cache so that they are decoded once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.folders import user_cache

#: Raise it when pictures are decoded otherwise.
VERSION = 2
#: Bytes of pictures that are kept; more are decoded each time.
LARGEST = 4 << 30


@dataclass(frozen=True)
class Kept:
    """Pictures as decoded.

    x: (n, H, W, C) uint8;  names, parts, labels: of each, ``""`` for no part;  digest: of all files' bytes
    troubles: files that are no pictures, and why
    """

    x: NDArray[np.uint8]
    names: tuple[str, ...]
    parts: tuple[str, ...]
    labels: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]
    troubles: tuple[tuple[str, str], ...]


def place(listing: Sequence[tuple[str, int, int]], path: Path, settings: Mapping[str, Any]) -> Path:
    """Where what comes of these files, with these settings, is kept: another name, size or time is another place."""
    facts = {"version": VERSION, "path": str(path.resolve()), "settings": settings, "files": listing}
    name = sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return user_cache() / "pictures" / f"{name}.safetensors"


def load(file: Path) -> Kept | None:
    """What is kept there; None where nothing is, or nothing whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        blob = file.read_bytes()
        if blob[:32] != sha256(blob[32:]).digest():
            return None
        tensors = parse(blob[32:])
        about = json.loads(bytes(tensors["about"]))
        return Kept(
            tensors["x"], tuple(about["names"]), tuple(about["parts"]), tuple(about["labels"]), about["digest"],
            tuple(about["notes"]), tuple((name, why) for name, why in about["troubles"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def keep(file: Path, kept: Kept, tell: Callable[[str], None]) -> None:
    """Write it whole or not at all; that it cannot be written is worth a line and no more."""
    from safetensors.numpy import save

    if kept.x.nbytes > LARGEST:
        return
    about = {
        "names": kept.names, "parts": kept.parts, "labels": kept.labels, "digest": kept.digest, "notes": kept.notes,
        "troubles": kept.troubles,
    }  # fmt: skip
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    blob = save({"x": np.ascontiguousarray(kept.x), "about": text})
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(sha256(blob).digest())
            stream.write(blob)
        temporary.replace(file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        tell(
            f"decoded pictures cannot be kept in {file.parent} ({error.strerror or error}); they are decoded each time"
        )
