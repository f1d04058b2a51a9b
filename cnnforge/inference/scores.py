"""An evaluation as text, as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnforge.inference.evaluation import Evaluation
from cnnforge.report.table import aligned

#: Classes up to which the confusion matrix is printed; of more, the pairs that are confused most, this many.
MATRIX, PAIRS = 20, 10
#: Columns of names, and of what is not a number.
_WORDS = ("class", "output", "truth", "answer", "file", "sample")
CLASS_HEAD, ERROR_HEAD = ("class", "samples", "precision", "recall", "f1"), ("output", "bias", "mae", "rmse", "r2")


def text(found: Evaluation, wrong: int = 0, files: NDArray[np.object_] | None = None) -> str:
    """Loss, accuracy, a row for each class, what is taken for what, and the ``wrong`` surest mistakes."""
    parts = ["\n".join(_headline(found)), "\n".join(aligned(_per_class(found), _WORDS))]
    if found.confusion is not None:
        parts.append("\n".join(_confusion(found)))
    if wrong:
        head, *rows = mistake_rows(found, wrong, files)
        shown = aligned([head, *rows], _WORDS) if rows else ["no mistakes"]
        title = (
            "the answers that are furthest off:" if found.task == "numbers" else "the mistakes that it was surest of:"
        )
        parts.append("\n".join([title if rows else "", *shown]).lstrip())
    return "\n\n".join(parts)


def to_json(found: Evaluation, wrong: int, files: NDArray[np.object_] | None = None) -> dict[str, Any]:
    """The same numbers in full. ``confusion``: [truth][answer]; what is not a number is null."""
    said: dict[str, Any] = {"samples": len(found.losses), "loss": _number(found.loss)}
    if found.task == "numbers":
        said["outputs"] = [
            dict(
                zip(
                    ERROR_HEAD,
                    (e.name, *map(_number, (e.bias, e.mean_absolute, e.root_mean_square, e.r2))),
                    strict=True,
                )
            )
            for e in found.errors
        ]
    else:
        said |= {"accuracy": found.accuracy, "macro_f1": found.macro_f1}
        said["classes"] = [
            dict(zip(CLASS_HEAD, (c.name, c.support, c.precision, c.recall, c.f1), strict=True))
            for c in found.per_class
        ]
    if found.confusion is not None:
        said["confusion"] = found.confusion.tolist()
    if wrong:
        said["mistakes"] = list(_mistakes(found, wrong, files))
    return said


def class_rows(found: Evaluation) -> Iterator[list[str]]:
    """CSV: a line for each class, or each output of a regression, numbers in full."""
    if found.task == "numbers":
        yield list(ERROR_HEAD)
        for e in found.errors:
            yield [e.name, *(f"{x:.9g}" for x in (e.bias, e.mean_absolute, e.root_mean_square, e.r2))]
        return
    yield list(CLASS_HEAD)
    for c in found.per_class:
        yield [c.name, str(c.support), *(f"{x:.9g}" for x in (c.precision, c.recall, c.f1))]


def mistake_rows(
    found: Evaluation, n: int, files: NDArray[np.object_] | None = None, exact: bool = False
) -> Iterator[list[str]]:
    """The n mistakes that the model was surest of, below a heading. exact: numbers in full, for CSV"""
    names = ("sample", *(("file",) if files is not None else ()), "truth", "answer")
    yield [*names, *(() if found.task == "numbers" else ("probability",))]
    for mistake in _mistakes(found, n, files):
        cells = [_written(mistake[name], exact) for name in names]
        if "probability" in mistake:
            cells.append(f"{mistake['probability']:.9g}" if exact else f"{mistake['probability']:.1%}")
        yield cells


def _written(value: Any, exact: bool) -> str:
    if isinstance(value, list):
        return " ".join(_written(one, exact) for one in value) or "none"
    return (
        f"{value:.9g}"
        if exact and isinstance(value, float)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )


def _mistakes(found: Evaluation, n: int, files: NDArray[np.object_] | None) -> Iterator[dict[str, Any]]:
    answered = found.predicted
    for row in found.mistakes(n).tolist():
        sample = row // found.places
        one: dict[str, Any] = {"sample": sample} | ({} if files is None else {"file": str(files[sample])})
        if found.task == "classes":
            truth, answer = found.names[found.labels[row]], found.names[answered[row]]
            p = float(found.probabilities[row, answered[row]])
            yield one | {"truth": truth, "answer": answer, "probability": p}
        elif found.task == "tags":
            truth, answer = ([found.names[i] for i in np.flatnonzero(tags[row])] for tags in (found.labels, answered))
            wrong = np.where(found.labels[row] == 1, 1 - found.probabilities[row], found.probabilities[row])
            p = float(wrong[found.labels[row] != answered[row]].max())
            yield one | {"truth": truth, "answer": answer, "probability": p}
        else:
            yield one | {"truth": found.labels[row].tolist(), "answer": answered[row].tolist()}


def _headline(found: Evaluation) -> Iterator[str]:
    yield f"loss      {found.loss:.6g}"
    if found.accuracy is not None:
        right = round(found.accuracy * len(found.labels)) if found.task == "classes" else None
        yield f"accuracy  {found.accuracy:.2%}" + (f", {right:,} of {len(found.labels):,}" if right is not None else "")


def _per_class(found: Evaluation) -> list[list[str]]:
    if found.task == "numbers":
        numbers = [(e.bias, e.mean_absolute, e.root_mean_square, e.r2) for e in found.errors]
        rows = [[e.name, *(f"{x:.4g}" for x in row)] for e, row in zip(found.errors, numbers, strict=True)]
        return [["output", "bias", "mean absolute error", "root mean square", "r2"], *rows]
    rows = [[c.name, f"{c.support:,}", *(f"{x:.1%}" for x in (c.precision, c.recall, c.f1))] for c in found.per_class]
    means = [float(np.mean([getattr(c, name) for c in found.per_class])) for name in ("precision", "recall", "f1")]
    total = ["mean", f"{sum(c.support for c in found.per_class):,}", *(f"{x:.1%}" for x in means)]
    return [list(CLASS_HEAD), *rows, total]


def _confusion(found: Evaluation) -> list[str]:
    table = found.confusion
    assert table is not None
    if len(found.names) <= MATRIX:
        # A class may have any name, that of the first column too.
        cells = [[str(n) if n else "." for n in row] for row in table.tolist()]
        lines = _beside(found.names, aligned([list(found.names), *cells], ()))
        return ["confusion (rows: the truth, columns: the answer)", *lines]
    pairs = [(int(table[i, j]), i, j) for i, j in np.argwhere(table) if i != j]
    pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
    rows = [[found.names[i], found.names[j], str(n)] for n, i, j in pairs[:PAIRS]]
    return ["confused most", *aligned([["truth", "answer", "times"], *rows], _WORDS)] if rows else ["nothing confused"]


def _beside(names: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    width = max(map(len, names))
    return (f"{name:<{width}}  {line}".rstrip() for name, line in zip(("", *names), lines, strict=True))


def _number(x: float) -> float | None:
    return x if isfinite(x) else None
