"""The course: pages whose numbers and pictures the library computes.

A topic is a module in ``topics`` with one function, ``parts(lesson)``: from the config as the reader changed it to
headings, paragraphs, tables and pictures. ``markdown`` and ``terminal`` show the same parts to different readers.
Importing this imports none of the topics, nor NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cnnforge.errors import ConfigError, suggest

if TYPE_CHECKING:
    from cnnforge.course.lesson import Lesson
    from cnnforge.course.parts import Page


@dataclass(frozen=True, slots=True)
class Topic:
    """title, about: its heading, and one line of the list;  choices: the options that its config begins with"""

    title: str
    about: str
    choices: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file to change: ``model/course/padding.yaml``, in the folder of configs."""
        return f"{self.choices[0].replace('=', '/')}.yaml"


#: In the order in which they build on each other.
TOPICS = {
    "edges": Topic("Edges", "what a filter does, before anything is learned", ("model=course/edges",)),
    "padding": Topic("Padding", "a rim of zeros, and what it is good for", ("model=course/padding",)),
    "stride": Topic("Stride", "longer steps, and where floor comes from", ("model=course/stride",)),
    "volumes": Topic("Volumes", "colours, channels, and several filters", ("model=course/volumes",)),
    "layer": Topic("One layer", "every number of a layer: shapes, parameters, work", ("model=course/layer",)),
    "pooling": Topic("Pooling", "the largest or the mean of each window", ("model=course/pooling",)),
    "lenet": Topic("A whole network", "LeNet, line by line", ("model=lenet",)),
    "why": Topic("Why convolutions", "sharing and sparsity: 456 parameters or 14 million", ("model=course/why",)),
    "learned": Topic("Learned filters", "gradient descent finds Sobel's numbers", ("experiment=learn_edge_filter",)),
    "backprop": Topic("The way back", "a convolution's gradients, by hand and checked", ("model=course/backprop",)),
    "field": Topic("The receptive field", "how far a deep layer sees", ("model=course/field",)),
}  # fmt: skip


def topic(name: str) -> Topic:
    """Raises ConfigError where there is none of this name."""
    if name not in TOPICS:
        raise ConfigError(
            f"there is no topic '{name}'",
            where=f"cnnforge explain {name}",
            why=f"the topics are {', '.join(TOPICS)}",
            fix=suggest(name, TOPICS) or "cnnforge explain lists them",
        )
    return TOPICS[name]


def lesson_on(name: str, overrides: Sequence[str] = (), config_dir: Path | None = None) -> Lesson:
    """The config that a topic speaks of, with the reader's changes. Raises ConfigError, ConfigErrors."""
    from cnnforge.course.lesson import Lesson

    return Lesson(name, topic(name).choices, tuple(overrides), config_dir)


def page(lesson: Lesson) -> Page:
    """A topic's page, computed. Raises ConfigErrors where the config cannot be built, or is not what it speaks of."""
    from cnnforge.course.parts import Page

    module = import_module(f"cnnforge.course.topics.{lesson.topic}")
    return Page(lesson.topic, TOPICS[lesson.topic].title, tuple(module.parts(lesson)))
