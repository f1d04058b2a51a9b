"""A page as Markdown, with its pictures as files beside it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from cnnforge.course import TOPICS, lesson_on, page
from cnnforge.course.drawing import bars_svg, png, side_by_side, strip_svg
from cnnforge.course.lesson import Lesson
from cnnforge.course.parts import Bars, Code, Exercise, Heading, Items, Page, Part, Pictures, Strip, Table, Text

_MADE = "<!-- Made by python -m cnnforge.course.pages: change cnnforge/course or the config, and make docs. -->"


def written(topic: str) -> tuple[str, dict[str, bytes]]:
    """(the page, its pictures by file name)."""
    asked = lesson_on(topic)
    made = page(asked)
    files: dict[str, bytes] = {}
    blocks = [_MADE, f"# {made.title}", _introduction(topic)]
    blocks += [text for part in made.parts if not isinstance(part, Exercise) for text in _blocks(part, topic, files)]
    return "\n\n".join([*blocks, *_exercises(made, asked), _onward(topic)]) + "\n", files


def index() -> str:
    """The page that leads to all others."""
    lines = [
        _MADE,
        "# The course inside",
        f"{len(TOPICS)} short pages on convolutional networks. Each number and picture on them was computed by the "
        "library, from a config that you can change: the page then says something else, and nothing else has to be "
        "changed.",
        "\n".join(f"{i}. [{one.title}]({name}.md): {one.about}" for i, (name, one) in enumerate(TOPICS.items(), 1)),
        "The same pages in a terminal, with your own changes:",
        "```sh\ncnnforge explain\ncnnforge explain padding\n"
        "cnnforge explain padding model.layers.conv1.padding=2\ncnnforge explain lenet model=lenet5\n```",
        "For more than one change copy a topic's file, such as "
        "[configs/model/course/padding.yaml](../../configs/model/course/padding.yaml), to the same place in the folder "
        "you work in, and edit it: your own `configs/` come before the shipped ones. `--answers` shows the answers of "
        "the exercises.",
        "Terms and letters are those of [Notation](../notation.md). What courses work out by hand is also held to by "
        "tests of the library: [tests/test_course.py](../../tests/test_course.py).",
    ]
    return "\n\n".join(lines) + "\n"


def _introduction(topic: str) -> str:
    file = TOPICS[topic].file
    return (
        f"*{TOPICS[topic].about[0].upper()}{TOPICS[topic].about[1:]}.* This page was computed from "
        f"[configs/{file}](../../configs/{file}); `cnnforge explain {topic}` prints it, with your own changes where "
        "you add some."
    )


def _onward(topic: str) -> str:
    names = list(TOPICS)
    i = names.index(topic)
    before = [f"Before: [{TOPICS[names[i - 1]].title}]({names[i - 1]}.md)."] if i else []
    after = [f"Next: [{TOPICS[names[i + 1]].title}]({names[i + 1]}.md)."] if i + 1 < len(names) else []
    return "---\n\n" + " ".join([*before, *after, "[All pages](README.md)"])


def _blocks(part: Part, topic: str, files: dict[str, bytes]) -> Iterable[str]:
    if isinstance(part, Heading):
        yield f"## {part.text}"
    elif isinstance(part, Text):
        yield part.text
    elif isinstance(part, Items):
        yield "\n".join(f"- {item}" for item in part.items)
    elif isinstance(part, Code):
        yield f"```{part.language}\n{part.text}\n```"
    elif isinstance(part, Table):
        rule = tuple("---" if i < part.words else "---:" for i in range(len(part.head)))
        yield "\n".join(f"| {' | '.join(cells)} |" for cells in (part.head, rule, *part.rows))
    elif isinstance(part, Strip | Bars | Pictures):
        name, content = _picture(part, topic)
        files[name] = content
        yield f"![{part.caption}]({name})\n\n*{part.caption}*"


def _picture(part: Strip | Bars | Pictures, topic: str) -> tuple[str, bytes]:
    if isinstance(part, Pictures):
        return f"{topic}-{part.name}.png", png(side_by_side(part))
    text = strip_svg(part) if isinstance(part, Strip) else bars_svg(part)
    return f"{topic}-{part.name}.svg", text.encode()


def _exercises(made: Page, asked: Lesson) -> Iterable[str]:
    if not made.exercises:
        return
    yield "## Exercises"
    for i, one in enumerate(made.exercises, 1):
        yield f"{i}. {one.question}\n\n   ```sh\n   {command(asked.topic, one)}\n   ```"
    yield "## Answers"
    yield "\n".join(f"{i}. {one.answer(asked.changed(*one.overrides))}" for i, one in enumerate(made.exercises, 1))


def command(topic: str, exercise: Exercise) -> str:
    """What answers an exercise, as it is typed."""
    return shlex.join(["cnnforge", "explain", topic, *exercise.overrides])


def everything() -> Mapping[str, bytes]:
    """All files of ``docs/course`` by name."""
    files = {"README.md": index().encode()}
    for topic in TOPICS:
        text, pictures = written(topic)
        files |= {f"{topic}.md": text.encode(), **pictures}
    return files
