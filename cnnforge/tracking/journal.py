"""The journal: ``RUN/journal.jsonl``, the truth about a run, appended one JSON line per record.

Every record is ``{"seq": int, "time": ms since the epoch, "kind": str, ...}`` and reaches the operating system in one
write, so a ``kill -9`` costs at most half of the last line. Reopening cuts that half off and goes on counting.

Kinds: ``run`` (id), ``params`` (values; unsaid: names of those that the tracker need not show), ``tags`` (values),
``metrics`` (step, values), ``artifact`` (path),
``dataset`` (name, source, digest, splits, shape, classes), ``model`` (path, loader, input_shape, output_shape),
``register`` (name: of a model in the registry, whose version the run's model becomes; after the run has ended),
``event`` (name, data), ``end`` (status). A line that is not such a record reads as kind ``damaged`` (text).
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Self, cast, get_args

from cnnforge.errors import CnnforgeError, ConfigError
from cnnforge.tracking.family import JOURNAL
from cnnforge.tracking.state import LockHeldError, acquire, shown

#: One line of the journal, as read back.
Record = dict[str, Any]

#: ``pruned``: a trial that its sweep ended early because others did better.
Status = Literal["finished", "failed", "diverged", "interrupted", "early_stopped", "pruned"]

#: What a record of each kind must hold; one that does not is damaged, and nobody after the reader need ask again.
_FIELDS: dict[str, dict[str, type]] = {
    "run": {"id": str},
    "params": {"values": dict},
    "tags": {"values": dict},
    "metrics": {"values": dict, "step": int},
    "artifact": {"path": str},
    "dataset": {"name": str, "source": str, "digest": str, "splits": dict, "shape": list},
    "model": {"path": str, "loader": str},
    "register": {"name": str},
    "event": {"name": str, "data": dict},
    "end": {"status": str},
}

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_BLOCK = 1 << 16


def journal_path(run_dir: Path) -> Path:
    """``RUN/journal.jsonl``."""
    return run_dir / JOURNAL


def lock_path(run_dir: Path) -> Path:
    """Held by the process that writes the journal, for as long as it lives."""
    return run_dir / ".journal.lock"


def is_written(run_dir: Path) -> bool:
    """Whether a living process is writing the run's journal."""
    if not lock_path(run_dir).exists():  # a look shall not bring a removed folder back
        return False
    try:
        acquire(lock_path(run_dir), timeout=0.0).close()
    except LockHeldError:
        return True
    return False


class Journal:
    """Writes a run's journal; opening an existing one mends its torn end and goes on.

    run_dir: the run folder, which must exist.
    Raises ``ConfigError`` when another process is writing it, ``CnnforgeError`` when the disk takes no more.
    Methods may be called from several threads.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = journal_path(run_dir)
        self._mutex = threading.Lock()
        try:
            # a second: `sync` looks at the lock for an instant to see whether the run is alive
            self._lock: IO[bytes] = acquire(lock_path(run_dir), timeout=1.0)
        except LockHeldError:
            raise ConfigError(
                f"{run_dir.name}: another process is running this run",
                where=str(self.path),
                why="two writers would mix their records",
                fix="wait for it or stop it, then resume; or choose another run.name",
            ) from None
        try:
            self._seq, self.run_id = _mend(self.path)
            self._file = self.path.open("ab", buffering=0)
        except BaseException:
            self._lock.close()
            raise
        if not self.run_id:
            self.run_id = uuid.uuid4().hex
            self._write("run", {"id": self.run_id})

    def params(self, values: Mapping[str, object], unsaid: Sequence[str] = ()) -> None:
        """The run's parameters; nested mappings become dotted names, values text as YAML spells it.

        unsaid: the dotted names of those that stay here: the tracker would show them among the others
        """
        self._write("params", {"values": flatten(values), **({"unsaid": list(unsaid)} if unsaid else {})})

    def tags(self, values: Mapping[str, str]) -> None:
        """Free labels; a later value replaces an earlier one."""
        self._write("tags", {"values": {str(name): str(value) for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Numbers measured at ``step``. NaN and infinities are kept as what they are."""
        numbers: dict[str, float | str] = {}
        for name, value in values.items():
            number = float(value)
            numbers[name] = number if math.isfinite(number) else str(number)  # JSON has no word for nan and inf
        self._write("metrics", {"step": int(step), "values": numbers})

    def artifact(self, path: str | PurePosixPath | Path) -> None:
        """A file or folder of the run folder to keep with the run. path: relative to the run folder."""
        self._write("artifact", {"path": _inside(path)})

    def dataset(
        self,
        name: str,
        source: str,
        digest: str,
        splits: Mapping[str, int],
        shape: Sequence[int],
        classes: int | None,
    ) -> None:
        """The data used. splits: samples per split; shape: of one sample, (H, W, C); classes: ``None`` if not known."""
        self._write(
            "dataset",
            {
                "name": name,
                "source": source,
                "digest": digest,
                "splits": {split: int(samples) for split, samples in splits.items()},
                "shape": [int(n) for n in shape],
                "classes": None if classes is None else int(classes),
            },
        )

    def model(
        self,
        path: str | PurePosixPath | Path,
        *,
        input_shape: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        loader: str = "cnnforge.model",
    ) -> None:
        """A saved model to log. path: its folder, relative to the run folder; shapes: of one sample.

        loader: the module whose ``_load_pyfunc(path)`` opens it again.
        """
        self._write(
            "model",
            {
                "path": _inside(path),
                "loader": loader,
                "input_shape": None if input_shape is None else [int(n) for n in input_shape],
                "output_shape": None if output_shape is None else [int(n) for n in output_shape],
            },
        )

    def register(self, name: str) -> None:
        """Make the run's model, logged before, a version of the registered model ``name``."""
        self._write("register", {"name": name})

    def event(self, name: str, **data: object) -> None:
        """Something that happened, with plain JSON data; MLflow shows the latest of each name as a tag."""
        self._write("event", {"name": name, "data": _plain(data)})

    def end(self, status: Status) -> None:
        """How the run ended. Safe on disk when this returns."""
        if status not in get_args(Status):
            raise ValueError(f"unknown status {status!r}, known: {', '.join(get_args(Status))}")
        self._write("end", {"status": status})
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Lets go of the file and of the lock; closing twice does nothing."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, kind: str, body: dict[str, Any]) -> None:
        with self._mutex:
            record = {"seq": self._seq, "time": time.time_ns() // 1_000_000, "kind": kind, **body}
            line = _encode(record).encode() + b"\n"
            try:
                written = self._file.write(line)
                if written != len(line):  # the disk filled up in the middle: leave no half line behind
                    os.ftruncate(self._file.fileno(), os.fstat(self._file.fileno()).st_size - (written or 0))
                    raise OSError(28, "No space left on device")
            except OSError as error:
                raise CnnforgeError(
                    f"{self.run_dir.name}: the journal cannot be written",
                    where=str(self.path),
                    why=error.strerror or str(error),
                    fix="free some space, then cnnforge resume",
                ) from error
            self._seq += 1


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Every whole record from ``offset`` on, and the offset after the last one; never half a line."""
    found = scan(path, offset, limit=None)
    return [record for record, _ in found], found[-1][1] if found else offset


def head(path: Path) -> Iterator[Record]:
    """Records from the first one on, read as they are asked for; none where there is no file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _parse(line)


def tail(path: Path) -> Iterator[Record]:
    """The last records, the last one first: those within the last 64 KiB, at least one where there is one."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        back, data = 0, b""
        while back < size and data.count(b"\n") < 2:  # until the last whole line is in sight
            back = min(max(_BLOCK, 2 * back), size)
            file.seek(size - back)
            data = file.read(back)
        lines = data.split(b"\n")[:-1]
        yield from map(_parse, reversed(lines if back == size else lines[1:]))


def scan(path: Path, offset: int, limit: int | None) -> list[tuple[Record, int]]:
    """Whole records from ``offset`` on, each with the offset after it; at most about ``limit`` bytes of them.

    At least one record comes back where there is one. A missing file has none.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        file.seek(offset)
        data = file.read(-1 if limit is None else limit)
        while b"\n" not in data and (more := file.read(_BLOCK)):
            data += more
    found = []
    for line in data.split(b"\n")[:-1]:
        offset += len(line) + 1
        found.append((_parse(line), offset))
    return found


def count(path: Path, offset: int) -> int:
    """Whole records from ``offset`` on."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    except FileNotFoundError:
        return 0


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """``{"optimizer": {"lr": 0.1}}`` -> ``{"optimizer.lr": "0.1"}``; true, null and lists as YAML spells them."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, str):
            flat[f"{prefix}{name}"] = shown(value)  # an address may hold a password: it is nobody's param
        else:
            plain = _plain(value)
            flat[f"{prefix}{name}"] = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return flat


def _plain(value: object) -> object:
    """The value with JSON's types only: tuples become lists, non-finite numbers and foreign objects text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def _inside(path: str | PurePosixPath | Path) -> str:
    text = PurePosixPath(Path(path).as_posix())
    if text.is_absolute() or ".." in text.parts or not text.parts:
        raise ValueError(f"{path}: must be a path inside the run folder, relative to it")
    return str(text)


def _parse(line: bytes) -> Record:
    try:
        record = json.loads(line)
        wanted = {"seq": int, "time": int, "kind": str, **_FIELDS.get(record["kind"], {})}
        if all(isinstance(record[name], kind) for name, kind in wanted.items()):
            if record["kind"] == "metrics":
                record["values"] = {name: float(value) for name, value in record["values"].items()}
            return cast("Record", record)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # said by the record below: one bad line must not hide the good ones after it
    return {"seq": -1, "time": 0, "kind": "damaged", "text": line[:80].decode("utf-8", "replace")}


def _mend(path: Path) -> tuple[int, str]:
    """Cuts a torn last line off; returns the next sequence number and the run's id ("" if it has none yet)."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return 0, ""
    with file:
        size = file.seek(0, os.SEEK_END)
        back, end = min(_BLOCK, size), b""
        while True:  # until the last whole line is in sight
            file.seek(size - back)
            end = file.read(back)
            if back == size or end.count(b"\n") >= 2:
                break
            back = min(2 * back, size)
        whole = end[: end.rfind(b"\n") + 1]
        if len(whole) < len(end):
            file.truncate(size - len(end) + len(whole))
    if not whole:
        return 0, ""
    last = _parse(whole[whole.rfind(b"\n", 0, -1) + 1 : -1])
    first = scan(path, 0, limit=1)[0][0]
    run_id = first["id"] if first["kind"] == "run" and isinstance(first.get("id"), str) else ""
    return (last["seq"] + 1 if last["kind"] != "damaged" else count(path, 0)), run_id
