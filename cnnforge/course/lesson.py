"""What a page speaks of: a topic's config as its reader changed it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cnnforge.config import compose, validate
from cnnforge.errors import ConfigError, ConfigErrors
from cnnforge.shapes import Shape
from cnnforge.spec import ModelSpec, Row, RunSpec


@dataclass(frozen=True)
class Lesson:
    """topic: its name;  choices: the options that its config begins with;  overrides: the reader's

    An option that the reader chooses takes the place of the topic's own.
    """

    topic: str
    choices: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None

    @cached_property
    def run(self) -> RunSpec:
        """Raises ConfigErrors with every mistake."""
        return self._composed(self.overrides)

    @property
    def model(self) -> ModelSpec:
        return self.run.model

    @cached_property
    def first(self) -> Row:
        """The first layer."""
        return self.model.table[0]

    def changed(self, *overrides: str) -> RunSpec:
        """The topic's own config, without the reader's changes, with these."""
        return self._composed(overrides)

    def conv(self, most: int | None = None) -> Row:
        """The first layer, a plain convolution over a picture of at most ``most`` rows and columns.

        Raises ConfigErrors where it is something else: its numbers are worked out one by one.
        """
        row = self.first
        if row.type != "conv":
            raise self.off_topic(f"{row.name} is a {row.type}", "a conv as the first layer")
        if getattr(row.block, "groups", 1) != 1:
            raise self.off_topic(f"{row.name} has groups", f"model.layers.{row.name}.groups=1")
        self.small(row.input, most)
        return row

    def small(self, shape: Shape, most: int | None) -> None:
        """Raises ConfigErrors where a picture of this shape cannot be shown number by number."""
        if most is not None and max(shape[:2]) > most:
            why = f"its pictures are shown number by number, and the input has {shape[0]}x{shape[1]} of them"
            raise self.off_topic(why, f"model.input=[{most},{most},{shape[2]}], or smaller")

    def off_topic(self, why: str, fix: str) -> ConfigErrors:
        """The error for a config that can be built, and that the page has nothing to say about."""
        what = f"the page '{self.topic}' cannot speak of this model"
        return ConfigErrors([ConfigError(what, where=f"cnnforge explain {self.topic}", why=why, fix=fix)])

    def _composed(self, overrides: tuple[str, ...]) -> RunSpec:
        chosen = {word.lstrip("+").partition("=")[0] for word in overrides}
        own = [choice for choice in self.choices if choice.partition("=")[0] not in chosen]
        return validate(compose([*own, *overrides], config_dir=self.config_dir), match_data=False)
