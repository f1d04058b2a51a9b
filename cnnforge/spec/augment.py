"""``augment:`` what is done to training pictures, each time anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from cnnforge.errors import ConfigError
from cnnforge.fields import Fraction, PositiveInt, Spec


class Crop(Spec):
    """A picture with a border put around it, of which a part of the picture's own size is cut out at random.

    padding: pixels of the border on each side
    border: ``reflect`` mirrors the picture at its edge pixels; ``zero`` is black, pixels of value 0
    """

    padding: PositiveInt
    border: Literal["reflect", "zero"] = "reflect"


class Flip(Spec):
    """Left and right change places.

    rate: the share of pictures to which it happens
    """

    rate: Fraction = 0.5


class AugmentSpec(Spec):
    """``augment:`` what is done to training pictures, in this order and each epoch anew; never in validation or test.

    What a picture gets follows from the run's seed, the epoch and the picture's number alone.

    crop: cut out of the padded picture at random
    flip: left and right change places at random
    """

    crop: Crop | None = None
    flip: Flip | None = None

    def mistakes(self, height: int, width: int) -> Iterator[ConfigError]:
        """What cannot be done to pictures of this size, which is the model's input."""
        if self.crop is not None and self.crop.padding >= (least := min(height, width)):
            yield ConfigError(
                f"augment: a border of {self.crop.padding} pixels around pictures of {height}x{width}",
                path=("augment", "crop", "padding"),
                why=f"{self.crop.padding} is not below {least}: a crop might hold nothing of the picture",
                fix=f"padding: {max(1, least // 8)}" if least > 1 else "augment.crop: null",
            )
