"""Cross-validation: a run for each fold, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from cnnforge.config import read_run, run_text, validate
from cnnforge.errors import ConfigError
from cnnforge.spec import RunSpec
from cnnforge.tracking import journal_path
from cnnforge.tracking.family import FOLDS
from cnnforge.train.folder import new_folder, point_latest, read_result, write_json, write_text
from cnnforge.train.record import OVER, read_record
from cnnforge.train.run import resume, run
from cnnforge.train.transfer import settle
from cnnforge.train.work import After, Console, Result


def cross_validate(spec: RunSpec, console: Console, after: After | None = None) -> tuple[Path, Result]:
    """Train once for each of ``data.folds``, in a folder of their own. Returns (it, what its ``result.json`` holds).

    after: of each fold's run. Raises whatever a fold's run raises; ``go_on`` then does what is left.
    """
    if spec.tracking.register_as is not None:
        raise ConfigError(
            f"register_as: {spec.tracking.register_as}, and {spec.data.folds} folds have a model each",
            where="tracking.register_as", why="one model can be registered", fix="data.fold=1, or no register_as",
        )  # fmt: skip
    spec = settle(spec)  # the folds look for runs in a folder of their own
    folder = new_folder(Path(spec.run.dir), spec.run.name or f"{spec.model.name}-{spec.data.type}")
    write_text(folder / "config.yaml", run_text(spec))
    write_json(folder / FOLDS, {"folds": spec.data.folds})
    return go_on(folder, console, after)


def go_on(folder: Path, console: Console, after: After | None = None) -> tuple[Path, Result]:
    """Do what is left of a cross-validation: finished folds stay, others are resumed or begun."""
    spec = validate(read_run(folder / "config.yaml"))
    folds = spec.data.folds
    if folds is None:
        raise ConfigError(
            f"{folder.name} is no cross-validation", where=str(folder / "config.yaml"), why="data.folds is not there",
            fix="put it back",
        )  # fmt: skip
    point_latest(folder)
    results: list[Result] = []
    for fold in range(1, folds + 1):
        name = f"{folder.name}-fold-{fold}"
        here = folder / name
        if not journal_path(here).is_file():
            own = {"name": name, "dir": str(folder)}
            one = spec.model_copy(update={"data": spec.data.model_copy(update={"fold": fold}),
                                          "run": spec.run.model_copy(update=own)})  # fmt: skip
            results.append(run(one, console, after=after)[1])
        elif (record := read_record(here)).status in OVER:
            console.note(f"fold {fold} of {folds} was finished before")
            results.append(read_result(record.folder))
        else:
            results.append(resume(here, (), console, after=after)[1])
    result = summary(results)
    write_json(folder / "result.json", result)
    return folder, result


def summary(results: list[Result]) -> Result:
    """What the folds have in common."""
    return {"status": "finished", "folds": len(results)} | means(results)


def means(results: Sequence[Result]) -> Result:
    """Mean and deviation (of the sample, n - 1) over several runs of every number that all have; seconds in all."""
    numbers = [name for name, value in results[0].items() if isinstance(value, float)]
    shared = [name for name in numbers if all(isinstance(r.get(name), float) for r in results)]
    about: Result = {}
    for name in shared:
        values = [float(r[name]) for r in results]
        about[name] = fmean(values)
        about[f"{name}_deviation"] = stdev(values)
    return about | {"wall_seconds": sum(float(r["wall_seconds"]) for r in results)}
