"""What a run's report tells: plain numbers and arrays, from which pictures and the page are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnforge.shapes import Shape
from cnnforge.spec import ModelSpec

#: What was measured when, in order.
Points = Sequence[tuple[int, float]]
#: By name.
Series = Mapping[str, Points]
#: (h, w, 1 or 3).
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """A row of the table of classes, tags or outputs: its name and numbers. ``support``: samples; None for outputs."""

    name: str
    numbers: tuple[float, ...]
    support: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of asking the model about samples whose labels are known.

    split:     which those are;  samples: how many
    summary:   numbers for all of them together, as text, by name
    columns:   what the numbers of ``scores`` are
    confusion: (k, k) [true, predicted], of classes only;  names: of the k
    outputs, targets: (n, k) of a regression, at most some thousand samples
    yes:       (n,) probabilities of yes and the labels 0 or 1, of two classes
    """

    split: str
    samples: int
    summary: Mapping[str, str]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    scores: tuple[Score, ...]
    confusion: NDArray[np.int64] | None = None
    outputs: NDArray[np.float64] | None = None
    targets: NDArray[np.float64] | None = None
    yes: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None


@dataclass(frozen=True)
class Mistake:
    """A picture that was read wrongly: its number in the split, what it is, and what the model says it is."""

    picture: Picture
    number: int
    truth: str
    said: tuple[str, ...]


@dataclass(frozen=True)
class Filters:
    """The weights of the first layer, (KH, KW, C, F), as they began and as they are; ``before`` may not be known."""

    layer: str
    before: NDArray[np.float64] | None
    after: NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """A picture on its way through the net: what some layers give for it, (OH, OW, F) or (units,) each."""

    picture: Picture
    label: str
    maps: Sequence[tuple[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Activity:
    """What a layer gives, over some samples: its output's shape, mean, deviation, and the share of zeros."""

    layer: str
    type: str
    output: Shape
    mean: float
    deviation: float
    zeros: float


@dataclass(frozen=True)
class RunFacts:
    """Everything that a run's report shows. What is not known is empty or None, and ``notes`` say why.

    model:    its spec, to be drawn
    headline: the numbers that matter most, as text, by name
    about:    rows of the head;  commands: what to type, with what that does
    table:    the model's layers, as text
    epochs, steps: metrics by name, by epoch and by step (without ``step/``)
    layers:   kind (``grad_norm``, ``update_ratio``, ``dead``) -> by layer, by step
    activity: of the final model's layers on ``activity_samples`` samples
    seconds, memory: what time and bytes went into
    """

    name: str
    status: str
    headline: tuple[tuple[str, str], ...]
    about: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    table: str
    model: ModelSpec
    epochs: Series
    steps: Series
    layers: Mapping[str, Series]
    verdict: Verdict | None = None
    mistakes: tuple[Mistake, ...] = ()
    filters: Filters | None = None
    seen: tuple[Seen, ...] = ()
    activity: tuple[Activity, ...] = ()
    activity_samples: int = 0
    seconds: Mapping[str, float] | None = None
    memory: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
