"""A run's report: ``report.html``, one file that opens from disk without network, and its pictures in ``plots/``."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from cnnforge.report.card import MOST_WIDE
from cnnforge.report.diagram import diagram, diagram_svg
from cnnforge.report.diagram.png import save_png
from cnnforge.report.facts import Activity, Mistake, RunFacts, Verdict
from cnnforge.report.plots import charts
from cnnforge.report.table import by, bytes_text, seconds_text
from cnnforge.report.tiles import (
    filter_sheet,
    filters_picture,
    fitted,
    maps_sheet,
    mistakes_picture,
    png,
    seen_picture,
)
from cnnforge.spec import ModelSpec

#: The report, and the folder of its pictures, in a run's.
PAGE, FOLDER = "report.html", "plots"
#: Rows of a table that are always in sight; longer ones unfold.
MOST_ROWS = 40

STYLE = """
:root { color-scheme: light; --ink: #1f2328; --faint: #656d76; --line: #d8dee4; --soft: #f6f8fa; --bar: #9ec5fe; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px; color: var(--ink); background: #fff;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { margin: 0 0 4px; font-size: 28px; }
h2 { margin: 36px 0 8px; font-size: 19px; border-bottom: 1px solid var(--line); }
h3 { margin: 16px 0 4px; font-size: 15px; } p { margin: 6px 0; max-width: 80ch; } .faint { color: var(--faint); }
.status { display: inline-block; margin-left: 10px; padding: 1px 10px; border-radius: 12px; font-size: 14px;
          vertical-align: 5px; color: #fff; background: #57606a; }
.finished, .early_stopped { background: #1a7f37; } .failed, .diverged { background: #cf222e; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.card { padding: 8px 16px; border: 1px solid var(--line); border-radius: 8px; background: var(--soft); }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; } .card span { color: var(--faint); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; } td.bar { padding-right: 24px; min-width: 120px; }
.bar i { display: block; height: 10px; margin-top: 6px; background: var(--bar); border-radius: 2px; }
img, svg { max-width: 100%; height: auto; } img.pixels { image-rendering: pixelated; }
pre { padding: 12px; overflow-x: auto; background: var(--soft); border-radius: 8px; font-size: 12.5px;
      line-height: 1.4; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
nav { margin-top: 14px; } .wrap img { max-width: min(100%, 560px); }
.wrap { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; } figure { margin: 0; width: 132px; }
figure img { height: 96px; display: block; }
figcaption { font-size: 12.5px; line-height: 1.35; overflow-wrap: anywhere; }
.note { padding: 8px 12px; margin: 8px 0; background: #fff8c5; border: 1px solid #d4a72c66; border-radius: 8px; }
summary { cursor: pointer; color: var(--faint); } nav a { margin-right: 14px; } a { color: #0969da; }
.maps td { border: 0; padding: 2px 12px 2px 0; } .maps td:first-child { white-space: nowrap; font-size: 13px; }
"""


def write(facts: RunFacts, folder: Path) -> list[Path]:
    """Make ``report.html`` and ``plots/`` in the run's folder, over what was there; return them. Raises OSError."""
    pictures = _pictures(facts)
    plots = folder / FOLDER
    plots.mkdir(exist_ok=True)
    for old in plots.glob("*.png"):
        if old.stem not in pictures:
            old.unlink()
    for name, content in pictures.items():
        _replace(plots / f"{name}.png", content)
    _replace(folder / PAGE, page(facts, pictures).encode())
    return [folder / PAGE, plots]


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(file)


def _pictures(facts: RunFacts) -> dict[str, bytes]:
    """Every picture there is something for, by the name of its file, as PNG."""
    made = charts(facts) | {"model": _drawn(facts.model)}
    if facts.mistakes:
        made["mistakes"] = png(mistakes_picture(facts.mistakes))
    if facts.filters:
        made["filters"] = png(filters_picture(facts.filters))
    for number, seen in enumerate(facts.seen, 1):
        made[f"feature_maps_{number}"] = png(seen_picture(seen))
    return made


def _drawn(model: ModelSpec) -> bytes:
    """The network, small enough for the model card where that leaves it legible."""
    file = io.BytesIO()
    save_png(diagram(model), file, least=MOST_WIDE, smallest=0.8)
    return file.getvalue()


def page(facts: RunFacts, pictures: Mapping[str, bytes]) -> str:
    """The whole page. pictures: charts by name, PNG"""
    parts: dict[str, tuple[str, Callable[[], Iterable[str]]]] = {
        "curves": ("Learning curves", lambda: _chart(pictures, "learning_curves")),
        "answers": ("Answers", lambda: _verdict(facts.verdict, pictures)),
        "mistakes": ("Surest mistakes", lambda: _mistakes(facts)),
        "filters": ("First filters, before and after", lambda: _filters(facts)),
        "maps": ("What the layers see", lambda: _maps(facts)),
        "layers": ("Layers during training", lambda: _layers(facts, pictures)),
        "activity": ("Activations of the final model", lambda: _activity(facts.activity, facts.activity_samples)),
        "split": ("Time and memory", lambda: _split(facts, pictures)),
        "model": (
            "Model",
            lambda: [f"<div>{diagram_svg(facts.model)}</div>", f"<pre><code>{escape(facts.table)}</code></pre>"],
        ),
        "again": ("Commands", lambda: _commands(facts.commands)),
    }
    bodies = {key: "\n".join(body()) for key, (_, body) in parts.items()}
    shown = {key: body for key, body in bodies.items() if body}
    links = "".join(f'<a href="#{key}">{escape(parts[key][0])}</a>' for key in shown)
    return "\n".join([
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(facts.name)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>",
        *_head(facts), f"<nav>{links}</nav>",
        *(f'<h2 id="{key}">{escape(parts[key][0])}</h2>\n{body}' for key, body in shown.items()),
        "</body>", "</html>", "",
    ])  # fmt: skip


def _head(facts: RunFacts) -> Iterable[str]:
    status = facts.status.replace("_", " ")
    yield f'<h1>{escape(facts.name)}<span class="status {escape(facts.status)}">{escape(status)}</span></h1>'
    yield '<div class="cards">'
    yield from (f'<div class="card"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for what, n in facts.headline)
    yield "</div>"
    yield from (f'<div class="note">{escape(note)}</div>' for note in facts.notes)
    yield _table([], [[escape(name), escape(text)] for name, text in facts.about])


def _image(content: bytes, about: str, pixels: bool = False) -> str:
    kind = ' class="pixels"' if pixels else ""
    return f'<img{kind} alt="{escape(about)}" src="data:image/png;base64,{b64encode(content).decode()}">'


def _chart(pictures: Mapping[str, bytes], name: str) -> Iterable[str]:
    if name in pictures:
        yield _image(pictures[name], name.replace("_", " "))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 99, kind: str = "") -> str:
    """numbers: the first column that stands at the right. Cells are HTML."""

    def kind_of(i: int, cell: str) -> str:
        name = "bar" if cell.startswith("<i") else "n" if i >= numbers else ""
        return f' class="{name}"' if name else ""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}{kind_of(i, c)}>{c}</{tag}>" for i, c in enumerate(cells)) + "</tr>"

    top = row(head, "th") + "\n" if head else ""
    lines = [row(cells, "td") for cells in rows]
    whole = f'<table class="{kind}">\n{top}' + "\n".join(lines[:MOST_ROWS]) + "\n</table>"
    if len(lines) <= MOST_ROWS:
        return whole
    more = "\n".join(lines[MOST_ROWS:])
    return f"{whole}\n<details><summary>{len(lines) - MOST_ROWS} more</summary><table>\n{top}{more}\n</table></details>"


def _faint(text: str) -> str:
    return f'<p class="faint">{escape(text)}</p>'


def _bar(share: float) -> str:
    return f'<i style="width: {100 * min(max(share, 0.0), 1.0):.1f}%"></i>'


def _verdict(verdict: Verdict | None, pictures: Mapping[str, bytes]) -> Iterable[str]:
    if verdict is None:
        return
    numbers = ", ".join(f"{name} {text}" for name, text in verdict.summary.items())
    yield f"<p>{verdict.samples:,} samples of {escape(verdict.split)}: {escape(numbers)}.</p>"
    yield '<div class="wrap">'
    yield from (f"<div>{image}</div>" for name in ("confusion", "outputs") for image in _chart(pictures, name))
    rows, share = [], verdict.columns[-1] == "F1"
    for score in verdict.scores:
        cells = [escape(score.name), *(f"{n:.2%}" if share else f"{n:.4g}" for n in score.numbers)]
        cells += [] if score.support is None else [f"{score.support:,}"]
        rows.append([*cells, *([_bar(score.numbers[-1])] if share else [])])
    head = ["class" if share else "output", *verdict.columns, *(["support", ""] if share else [])]
    yield f"<div>{_table(head, rows, 1)}</div></div>"


def _mistakes(facts: RunFacts) -> Iterable[str]:
    if not facts.mistakes:
        return
    yield _faint("Those first of which the model was surest, or that are furthest off.")
    yield '<div class="wrap">'
    yield from map(_mistake, facts.mistakes)
    yield "</div>"


def _mistake(mistake: Mistake) -> str:
    first, *others = map(escape, mistake.said)
    text = f"is <b>{escape(mistake.truth)}</b><br>said <b>{first}</b>" + "".join(f"<br>{other}" for other in others)
    image = _image(png(fitted(mistake.picture, 96)), f"sample {mistake.number}", pixels=True)
    return (
        f'<figure>{image}<figcaption>{text}<br><span class="faint">sample {mistake.number}</span></figcaption></figure>'
    )


def _filters(facts: RunFacts) -> Iterable[str]:
    if facts.filters is None:
        return
    shape = facts.filters.after.shape
    yield _faint(f"Weights of {facts.filters.layer}, {by(shape)}: grey is 0.")
    yield '<div class="wrap">'
    for name, w in (("before training", facts.filters.before), ("after training", facts.filters.after)):
        if w is not None:
            yield f"<div><h3>{name}</h3>{_image(png(filter_sheet(w)), f'filters {name}', pixels=True)}</div>"
    yield "</div>"


def _maps(facts: RunFacts) -> Iterable[str]:
    if not facts.seen:
        return
    yield _faint("Some layers' outputs for single pictures: bright is large, each layer on a scale of its own.")
    for number, seen in enumerate(facts.seen):
        image = _image(png(fitted(seen.picture, 96)), seen.label, pixels=True)
        rows = [["input", image]]
        rows += [
            [f"{escape(name)}<br><span class='faint'>{by(values.shape)}</span>",
             _image(png(maps_sheet(values)), f"maps of {name}", pixels=True)]
            for name, values in seen.maps
        ]  # fmt: skip
        opened = " open" if number == 0 else ""
        yield f"<details{opened}><summary>{escape(seen.label)}</summary>{_table([], rows, kind='maps')}</details>"


def _layers(facts: RunFacts, pictures: Mapping[str, bytes]) -> Iterable[str]:
    if "layers" not in pictures:
        return
    yield _faint(
        "Gradient norm: one that grows or vanishes from layer to layer asks for another start or a norm. "
        "Update / weights: about 1e-3 is usual. Dead: units of a rectifier that are 0 for the whole batch."
    )
    yield from _chart(pictures, "layers")


def _activity(activity: Sequence[Activity], samples: int) -> Iterable[str]:
    if not activity:
        return
    yield _faint(f"Of every layer's output, over {samples} samples.")
    rows = [
        [escape(a.layer), escape(a.type), by(a.output), f"{a.mean:.3g}", f"{a.deviation:.3g}", f"{a.zeros:.1%}",
         _bar(a.zeros)]
        for a in activity
    ]  # fmt: skip
    yield _table(["layer", "type", "output", "mean", "deviation", "zeros", ""], rows, 3)


def _split(facts: RunFacts, pictures: Mapping[str, bytes]) -> Iterable[str]:
    yield from _chart(pictures, "split")
    if facts.seconds:
        yield _faint(f"{seconds_text(sum(facts.seconds.values()))} in all, of the run's last life.")
    if facts.memory:
        yield _faint(f"{bytes_text(facts.memory['total'])} for a step with its weights, as planned.")


def _commands(commands: Sequence[tuple[str, str]]) -> Iterable[str]:
    yield _table([], [[f"<code>{escape(command)}</code>", escape(what)] for command, what in commands])
