"""A trained model's answers to picture files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnforge.data import Preprocessing, archive
from cnnforge.data.pictures import DAMAGE, ENDINGS, strictly, trouble
from cnnforge.errors import DataError
from cnnforge.inference.evaluation import THRESHOLD
from cnnforge.model import INFERENCE_BATCH, Model
from cnnforge.shapes import count

#: What names standard input.
STDIN = "-"
#: Numbers of network input that one piece may hold: 27 pictures of 224x224x3.
PIECE = 1 << 22
#: Multiply-accumulates up to which the plain backend has its answer before the compiled one has been loaded.
FEW = 10_000_000_000

Task = Literal["classes", "yes_or_no", "tags", "numbers"]


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    file:    as it was named
    values:  (k,) probabilities of the classes or tags, the one of yes, or a regression's outputs; None where there is
             no answer, and ``trouble`` says why
    picture: (*input) float32, what the network saw
    """

    file: str
    values: NDArray[np.float64] | None = None
    picture: NDArray[np.float32] | None = None
    trouble: str = ""

    def ranked(self, k: int) -> list[tuple[int, float]]:
        """(class number, probability) of the k most probable, the first of equals first."""
        assert self.values is not None
        order = np.argsort(-self.values, kind="stable")[:k]
        return [(int(i), float(self.values[i])) for i in order]


def says_yes(answer: Answer) -> bool:
    """Of one sigmoid unit."""
    assert answer.values is not None
    return bool(answer.values[0] > THRESHOLD)


def load(folder: Path, samples: int) -> Model:
    """The model of a run or a saved one, for ``samples`` pictures.

    Raises CheckpointError, and DataError where it takes no picture files or gives no single answer.
    """
    model = Model.load(folder, "numpy")
    takes_files(model)
    task(model)
    return for_many(model, folder, samples)


def for_many(model: Model, folder: Path, samples: int) -> Model:
    """``model``, which was loaded from ``folder``, on the backend that is done first with so many samples.

    Loading the compiled one takes longer than a few pictures take without it.
    """
    macs = sum(row.macs for row in model.spec.table)
    return Model.load(folder) if model.precision == "float32" and samples * macs > FEW else model


def takes_files(model: Model) -> Preprocessing:
    """What makes network input of a picture file. Raises DataError where nothing does."""
    made = model.preprocessing
    if made is None or made.form is None or made.pixels != "uint8":
        raise DataError(
            f"model {model.spec.name} does not take picture files",
            why="it was not trained by a run" if made is None
            else "it was trained on arrays that are no 8-bit pictures of one or three channels",
            fix="give it arrays, in Python: Model.predict",
        )  # fmt: skip
    return made


def task(model: Model) -> Task:
    """What is asked of the model. Raises DataError where it answers at every place of a volume."""
    loss, output = model.spec.effective_loss, model.spec.output
    if len(output) > 1:
        raise DataError(
            f"model {model.spec.name} gives a volume, and not one answer to a picture",
            why=f"its output is {'x'.join(map(str, output))}", fix="in Python: Model.predict",
        )  # fmt: skip
    if not loss.scores_hits():
        return "numbers"
    if loss.labels(output)[1] == "int64":
        return "classes"
    return "yes_or_no" if output == (1,) else "tags"


def class_names(model: Model) -> tuple[str, ...]:
    """Names of the values of an answer; their numbers where they have none. One sigmoid unit is the second class."""
    outputs, names = model.spec.output[-1], model.classes
    if task(model) == "yes_or_no":
        return (names[1],) if len(names) == 2 else ("yes",)
    return names if len(names) == outputs else tuple(str(i) for i in range(outputs))


def picture_files(named: Sequence[str]) -> Iterator[Answer]:
    """The files that are meant, in order: of a folder all pictures below, sorted; unread, or with what is wrong."""
    for name in named:
        if name == STDIN or not Path(name).is_dir():
            yield Answer(name)
            continue
        found = [file for file in archive.names(Path(name)) if file.lower().endswith(ENDINGS)]
        yield from (Answer(str(Path(name) / file)) for file in found)
        if not found:
            yield Answer(name, trouble=f"a folder without pictures; their names end in {', '.join(ENDINGS[:7])}")


def answers(model: Model, files: Iterable[Answer], stdin: Callable[[], bytes]) -> Iterator[Answer]:
    """The files' answers, in order, a piece at a time. A file that cannot be read as a picture says why and no more.

    stdin: reads standard input
    """
    made = takes_files(model)
    most = max(1, min(INFERENCE_BATCH, PIECE // count(made.input)))
    waiting: list[Answer] = []
    for file in files:
        waiting.append(file if file.trouble else _read(made, file.file, stdin))
        if sum(answer.picture is not None for answer in waiting) == most:
            yield from _answered(model, waiting)
            waiting = []
    yield from _answered(model, waiting)


def _read(made: Preprocessing, name: str, stdin: Callable[[], bytes]) -> Answer:
    try:
        content = stdin() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        return Answer(name, trouble=error.strerror or str(error))
    try:
        with strictly():
            raw = made.decode(content)
    except DAMAGE as error:
        return Answer(name, trouble=trouble(error))
    return Answer(name, picture=made.apply(raw[None])[0])


def _answered(model: Model, waiting: Sequence[Answer]) -> Iterator[Answer]:
    pictures = [answer.picture for answer in waiting if answer.picture is not None]
    values = iter(model.predict(np.stack(pictures)).astype(np.float64) if pictures else ())
    for answer in waiting:
        yield answer if answer.picture is None else Answer(answer.file, next(values), answer.picture)
