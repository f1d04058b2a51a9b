"""From a raw picture to network input: what training measures once, and a saved model carries with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from cnnforge.data.adapt import Adaptation, Picture
from cnnforge.data.chunks import chunks
from cnnforge.data.pictures import Form, decode
from cnnforge.errors import CheckpointError, DataError

Normalize = Literal["standard", "unit", "none"]
Pixels = Literal["uint8", "float32"]


@dataclass(frozen=True)
class Preprocessing:
    """Adaptation, then ``(x - mean) / std`` in float32, then the repetition of a single channel.

    adaptation: size and channels
    pixels:     what training pictures held: ``uint8`` from 0 to 255, or ``float32`` on a scale of their own
    mean, std:  per kept channel, on the scale of the pixels
    form:       what picture files are brought to before, which is what training's pictures were; None where they were
                none of one or three channels
    """

    adaptation: Adaptation
    pixels: Pixels
    mean: tuple[float, ...]
    std: tuple[float, ...]
    form: Form | None = None

    @classmethod
    def identity(cls, input: Picture) -> Preprocessing:
        """For arrays that are network input already: floats of shape (n, *input), passed on as they are."""
        h, w, c = input
        rule = Adaptation((h, w, c), channels=c, resize="refuse")
        return cls(rule, "float32", (0.0,) * c, (1.0,) * c)

    @property
    def input(self) -> Picture:
        """(H, W, C) of the network's input."""
        return self.adaptation.input

    @property
    def kept(self) -> Picture:
        """(H, W, channels) of a sample as a split keeps it."""
        return *self.input[:2], self.adaptation.channels

    @cached_property
    def is_identity(self) -> bool:
        """Is there nothing to subtract or divide?"""
        return not any(self.mean) and all(s == 1.0 for s in self.std)

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """raw: (n, h, w, c) uint8, or float on the scale of the training pictures -> (n, *input) float32.

        8-bit pictures give, to the bit, what training made of them. Raises DataError where there is no rule for them.
        """
        if raw.ndim != 4:
            raise DataError(
                f"pictures come as (n, height, width, channels), not {raw.shape}",
                why=f"{raw.ndim} axes where 4 belong",
                fix="x[None] for a single picture, x[..., None] for pictures without a channel axis",
            )
        if raw.dtype != np.uint8 and raw.dtype.kind != "f":
            raise DataError(
                f"pictures of {raw.dtype} are neither 8-bit nor floats",
                why="uint8 from 0 to 255 and floats are what pixels can be",
                fix="x.astype('uint8') where the values are 0 to 255",
            )
        if raw.dtype == np.uint8 and self.pixels == "float32":
            raise DataError(
                "8-bit pictures for a model that was trained on floats",
                why="the scale of the training pictures is not known to be 0 to 255",
                fix="give floats on the scale of the training pictures, or train on uint8 pictures",
            )
        kept = self.adaptation.adapt(raw if raw.dtype == np.uint8 else raw.astype(np.float32))
        return self.normalize(kept)

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """A picture file's bytes -> (h, w, c), as ``apply`` takes it. Raises one of ``pictures.DAMAGE``, and DataError
        where the model was not trained on pictures.
        """
        if self.form is None or self.pixels != "uint8":
            raise DataError(
                "the model does not take picture files",
                why="it was trained on arrays that are no 8-bit pictures of one or three channels",
                fix="give it arrays: Model.predict",
            )
        return decode(content, self.form)

    def normalize(self, kept: NDArray[Any]) -> NDArray[np.float32]:
        """kept: (n, H, W, channels) as a split holds it -> (n, *input) float32."""
        out = np.empty((len(kept), *self.input), np.float32)
        self.normalize_into(kept, np.empty(kept.shape, np.float32), out)
        return out

    def normalize_into(self, kept: NDArray[Any], scratch: NDArray[np.float32], out: NDArray[Any]) -> None:
        """kept: (n, H, W, channels) -> out: (n, H, W, C) of any float type, without allocating.

        scratch: (n, H, W, channels) float32. The arithmetic is float32 whatever ``out`` is, so that every precision
        is fed the same numbers; where nothing is subtracted or divided, ``kept`` is passed on in its own precision.
        """
        if self.is_identity:
            _spread(kept, out)
            return
        straight = out.dtype == np.float32 and kept.shape == out.shape
        x = out if straight else scratch
        mean, factor = self._pictures
        # Three passes over a few cache lines beat one mixed-type ufunc, which NumPy would buffer.
        np.copyto(x, kept, casting="same_kind")
        np.subtract(x, mean, out=x)
        np.multiply(x, factor, out=x)
        if not straight:
            _spread(x, out)

    @property
    def constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What is subtracted, then multiplied with: a number per kept channel each."""
        return np.array(self.mean, np.float32), (1.0 / np.array(self.std)).astype(np.float32)

    @cached_property
    def _pictures(self) -> tuple[NDArray[np.float32], ...]:
        """The constants as whole pictures: an inner loop over 3 channels would take ten times as long."""
        shape = (1,) if len(self.mean) == 1 else self.kept
        return tuple(np.broadcast_to(constant, shape).copy() for constant in self.constants)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; numbers come back to the bit."""
        rule = asdict(self.adaptation)
        parts = {**rule, "pixels": self.pixels, "mean": self.mean, "std": self.std}
        if self.form is not None:
            parts["form"] = {key: _listed(value) for key, value in asdict(self.form).items()}
        return {key: _listed(value) for key, value in parts.items()}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Preprocessing:
        """What ``to_dict`` gave. Raises CheckpointError where it is something else."""
        rule = dict(tree)
        constants = {key: rule.pop(key) for key in ("pixels", "mean", "std", "form") if key in rule}
        if unknown := sorted(map(str, set(rule) - {"input", "channels", "resize"})):
            raise _damaged(", ".join(unknown), "no such part")
        try:
            made = TypeAdapter(Preprocessing).validate_python({"adaptation": rule, **constants})
        except ValidationError as error:
            first = error.errors()[0]
            raise _damaged(".".join(str(k) for k in first["loc"] if k != "adaptation"), first["msg"]) from error
        channels = made.adaptation.channels
        if not (len(made.mean) == len(made.std) == channels and all(map(isfinite, made.mean + made.std))):
            raise _damaged("mean, std", f"not {channels} finite numbers each, one per channel")
        if min(made.std) <= 0 or channels not in (1, made.input[2]):
            raise _damaged("std, channels", "deviations are above 0, channels are 1 or those of the input")
        return made


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _damaged(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        "the saved preprocessing is damaged",
        where=where,
        why=why,
        fix="another checkpoint of the run, or cnnforge train RUN/config.yaml",
    )


def measure(rule: Adaptation, train: NDArray[Any], normalize: Normalize) -> tuple[Preprocessing, tuple[str, ...]]:
    """The preprocessing whose constants are those of the training samples ``train``, and notes.

    train: (n, H, W, channels), adapted, n > 0.
    standard: mean and (population) deviation of each channel, zeros of ``resize: pad`` counted in.
    unit:     uint8 / 255; floats, whose scale nobody states, by the least and greatest training value.
    """
    channels = rule.channels
    mean, std = (0.0,) * channels, (1.0,) * channels
    notes: tuple[str, ...] = ()
    if normalize == "standard":
        moments = [_moments(train, c) for c in range(channels)]
        mean = tuple(m for m, _ in moments)
        flat = [c for c, (_, s) in enumerate(moments) if s == 0.0]
        std = tuple(s or 1.0 for _, s in moments)
        notes = tuple(f"channel {c} is the same everywhere in the training samples: not divided" for c in flat)
    elif normalize == "unit" and train.dtype == np.uint8:
        std = (255.0,) * channels
    elif normalize == "unit":
        low, high = float(train.min()), float(train.max())
        mean, std = (low,) * channels, (high - low or 1.0,) * channels
        notes = (f"float pictures scaled from [{low:g}, {high:g}], measured on the training samples, to [0, 1]",)
    pixels: Pixels = "uint8" if train.dtype == np.uint8 else "float32"
    return Preprocessing(rule, pixels, mean, std), notes


def _moments(x: NDArray[Any], c: int) -> tuple[float, float]:
    """Mean and deviation of one channel; exact for uint8, in float64 otherwise."""
    parts = chunks(len(x), x.shape[1:])
    if x.dtype == np.uint8:
        counts = sum(
            (np.bincount(x[part, ..., c].reshape(-1), minlength=256) for part in parts), np.zeros(256, np.int64)
        ).tolist()
        n = sum(counts)
        total = sum(v * k for v, k in enumerate(counts))
        squares = sum(v * v * k for v, k in enumerate(counts))
        return float(total / n), float((n * squares - total * total) ** 0.5 / n)
    channel = x[..., c]
    mean = float(channel.mean(dtype=np.float64))
    spread = sum(float(np.square(channel[part] - np.float64(mean)).sum()) for part in parts)
    return mean, float((spread / channel.size) ** 0.5)


def _spread(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy (n, H, W, C), or one channel to all C."""
    if x.shape == out.shape:
        np.copyto(out, x, casting="same_kind")
        return
    # One strided copy per channel: broadcasting would run an inner loop of length C, four times as slow.
    for c in range(out.shape[-1]):
        np.copyto(out[..., c], x[..., 0], casting="same_kind")
