"""The model behind the service: from pictures as they are sent to network input, and from rows of results to words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.config import read_run, validate
from cnnforge.data import Preprocessing
from cnnforge.data.pictures import PICTURES, TooManyPixels, look
from cnnforge.errors import CheckpointError
from cnnforge.inference.predict import class_names, task
from cnnforge.model import Model
from cnnforge.serve.limits import Refused
from cnnforge.tracking.family import name_of

#: What the page is shown of a layer, so that an answer stays small: maps, their sides, single numbers.
MAPS, SIDE, VALUES = 32, 64, 512
#: Points of a side of an array: the weights with which it is resized grow with it.
LONGEST = 4096
#: What answers are made of, by what is asked of the model.
KINDS = {"classes": "softmax", "yes_or_no": "sigmoid", "tags": "sigmoid", "numbers": "values"}
#: Layers whose output is their input, when nothing is trained.
SILENT = ("flatten", "dropout", "spatial_dropout", "drop_path")


@dataclass(frozen=True)
class Served:
    """A trained run.

    run, data: the names of the run, or of a saved model, and of the kind of its data, where it is known
    classes: a name for each, where it tells classes apart
    kind: ``softmax`` (one class of several), ``sigmoid`` (yes or no, for each class) or ``values``
    """

    model: Model
    preprocessing: Preprocessing
    run: str
    data: str
    classes: tuple[str, ...]
    kind: str

    @classmethod
    def load(cls, folder: Path) -> Served:
        """Of a run folder, or a saved model. Raises CheckpointError where no preprocessing came with it."""
        model = Model.load(folder)
        if model.preprocessing is None:
            raise CheckpointError(
                f"the model in {folder} does not know how its pictures were prepared", where=str(folder),
                why="it was not trained by a run", fix="cnnforge serve with a run that cnnforge train has made",
            )  # fmt: skip
        spec = model.spec
        asked = task(model) if len(spec.output) == 1 else "numbers"
        kind = KINDS[asked]
        named = class_names(model) if asked in ("classes", "tags") else model.classes or ("0", "1")
        config = folder / "config.yaml"
        data = validate(read_run(config)).data.type if config.is_file() else ""
        return cls(model, model.preprocessing, name_of(folder), data, () if kind == "values" else named, kind)

    def warm(self, largest: int) -> None:
        """Compile and bind all that requests of up to ``largest`` pictures need. In the thread that will run them."""
        for n in range(largest, 0, -1):
            self.model.predict(np.zeros((n, *self.model.spec.input), np.float32))
        self.model.activations(np.zeros((1, *self.model.spec.input), np.float32))

    @property
    def takes_pictures(self) -> bool:
        return self.preprocessing.form is not None and self.preprocessing.pixels == "uint8"

    def measure(self, content: bytes, most: int, where: str = "body") -> int:
        """Pixels of a picture file, by its header. Raises Refused where it is none, or has more than ``most``."""
        if not self.takes_pictures:
            raise Refused(
                415, "the model does not take picture files", where=where,
                why="it was trained on arrays that are no 8-bit pictures of one or three channels",
                fix='send arrays as JSON: {"images": [[[…]]]}',
            )  # fmt: skip
        try:
            width, height = look(content)
        except TooManyPixels:
            width, height = most, 2
        except Exception:  # whatever a decoder throws at strange bytes, its text may hold an address
            raise Refused(
                415, "this is not a picture", where=where, why=f"{len(content):,} bytes that are none of {PICTURES}",
                fix="send one of these as it lies in its file",
            ) from None  # fmt: skip
        if width * height > most:
            raise Refused(
                413, "too many pixels", where=where, why=f"{most:,} more are taken, however small the file is",
                fix="make the picture smaller",
            )  # fmt: skip
        return width * height

    def input_of(self, content: bytes, where: str = "body") -> NDArray[np.float32]:
        """A picture file's bytes, after ``measure``, -> network input (H, W, C). Raises Refused, DataError."""
        try:
            raw = self.preprocessing.decode(content)
        except Exception:
            raise Refused(
                422, "the picture cannot be read to its end", where=where, why="it is damaged or cut off",
                fix="send the whole file",
            ) from None  # fmt: skip
        return self._one(raw)

    def input_of_array(self, value: object, where: str) -> NDArray[np.float32]:
        """Nested lists (h, w) or (h, w, c) of raw pixels -> network input (H, W, C). Raises Refused, DataError."""
        try:
            raw = np.array(value)
        except (ValueError, OverflowError):
            raise _no_array(where, "its rows differ in length") from None
        if raw.ndim == 2:
            raw = raw[..., None]
        if raw.dtype.kind not in "iuf" or raw.ndim != 3 or not raw.size:
            raise _no_array(where, f"shape {raw.shape}" if raw.dtype.kind in "iuf" else "it holds more than numbers")
        if max(raw.shape) > LONGEST:
            raise Refused(
                413, "the array is too long", where=where, why=f"shape {raw.shape}, and a side has at most {LONGEST}",
                fix="make the picture smaller",
            )  # fmt: skip
        if not np.isfinite(raw).all() or np.abs(raw).max() > np.finfo(np.float32).max:
            raise _no_array(where, "some of its numbers are no finite float32")
        if self.preprocessing.pixels == "uint8" and raw.dtype.kind in "iu":
            if raw.min() < 0 or raw.max() > 255:
                raise _no_array(where, f"it goes from {raw.min()} to {raw.max()}, and pixels from 0 to 255")
            raw = raw.astype(np.uint8)
        else:
            raw = raw.astype(np.float32)
        return self._one(raw)

    def _one(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        x: NDArray[np.float32] = self.preprocessing.apply(raw[None])[0]
        return x

    def answer(self, row: NDArray[Any], top: int | None) -> dict[str, Any]:
        """A row of ``Model.predict`` in words; ``top``: only so many classes, the likeliest first."""
        if self.kind == "values":
            return {"values": _plain(row)}
        p = row.reshape(-1)
        if self.kind == "sigmoid" and len(p) == 1:
            p = np.array([1 - p[0], p[0]])
        order = np.argsort(-p, kind="stable")[:top]
        return {"predictions": [{"class": self.classes[i], "probability": _plain(p[i])} for i in order]}

    def about(self) -> dict[str, Any]:
        """What ``/model`` says."""
        spec, form = self.model.spec, self.preprocessing.form
        takes = (
            {"size": form.size, "fit": form.fit, "channels": form.channels} if form and self.takes_pictures else None
        )
        return {
            "model": spec.name,
            "run": self.run,
            "data": self.data,
            "kind": self.kind,
            "classes": self.classes,
            "input": spec.input,
            "output": spec.output,
            "pictures": takes,
            "preprocessing": self.preprocessing.to_dict(),
            "parameters": sum(row.param_count for row in spec.table),
            "layers": [{"name": row.name, "type": row.type, "output": row.output} for row in spec.table],
            "spec": spec.model_dump(mode="json"),
        }

    def look_inside(self, x: NDArray[np.float32]) -> dict[str, Any]:
        """Network input (H, W, C) -> it and what every layer makes of it, for the page."""
        found = self.model.activations(x[None])
        shown = [row for row in self.model.spec.table if row.type not in SILENT]
        return {
            "input": {"name": "input", "type": "input", **_maps(x)},
            "layers": [{"name": row.name, "type": row.type, **_shown(found[row.name][0])} for row in shown],
        }


def _no_array(where: str, why: str) -> Refused:
    return Refused(
        422, "this is not an array of pixels", where=where, why=why,
        fix="lists of rows of numbers, or of rows of pixels that are lists of one number for each channel",
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """For JSON, which has no numbers that are not finite."""
    if isinstance(value, np.ndarray):
        return [_plain(inner) for inner in value]
    return float(value) if np.isfinite(value) else None


def _shown(a: NDArray[Any]) -> dict[str, Any]:
    if a.ndim == 3 and a.shape[0] * a.shape[1] > 1:
        return _maps(a)
    values = np.nan_to_num(a.reshape(-1)[:VALUES].astype(np.float32))
    return {"shape": a.shape, "values": [float(f"{v:.4g}") for v in values.tolist()]}


def _maps(a: NDArray[Any]) -> dict[str, Any]:
    """(h, w, c) -> its first maps, made smaller where they are large, in 8 bits between ``low`` and ``high``."""
    maps: NDArray[Any] = np.nan_to_num(a[..., :MAPS].astype(np.float32))
    step = max(1, ceil(max(maps.shape[:2]) / SIDE))
    if step > 1:
        maps = _coarser(maps, step)
    low, high = float(maps.min()), float(maps.max())
    scaled = (maps - low) * (255 / (high - low) if high > low else 0)
    bits = np.rint(scaled).clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    return {"shape": a.shape, "maps": bits.shape, "low": low, "high": high, "data": b64encode(bits.tobytes()).decode()}


def _coarser(maps: NDArray[Any], step: int) -> NDArray[Any]:
    """Means over ``step`` x ``step`` points; those at the bottom and right over what is there."""
    for axis in (0, 1):
        at = np.arange(0, maps.shape[axis], step)
        counts = np.diff([*at, maps.shape[axis]]).astype(np.float32)
        counts = counts[:, None, None] if axis == 0 else counts[:, None]
        maps = np.add.reduceat(maps, at, axis) / counts
    return maps


def images_of(body: object, most: int) -> Sequence[object]:
    """The pictures of a JSON body ``{"images": […]}``. Raises Refused."""
    if not isinstance(body, Mapping) or set(body) != {"images"} or not isinstance(body["images"], list):
        raise Refused(
            422, 'the body is not {"images": […]}', where="body", why="that is the one form that is read",
            fix="a list of pictures: base64 text of a file, or rows of pixels, each",
        )  # fmt: skip
    images: list[object] = body["images"]
    if not 1 <= len(images) <= most:
        raise Refused(
            422, f"{len(images)} pictures in one request", where="images", why=f"1 to {most} are taken",
            fix="several requests",
        )  # fmt: skip
    return images
