"""``augment:`` what is done to training pictures, each time anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from cnnforge.errors import ConfigError
from cnnforge.fields import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Spec

Border = Literal["zero", "reflect", "edge"]
Fill = Literal["mean", "black"]
Range = tuple[PositiveFloat, PositiveFloat]


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


class VerticalFlip(Spec):
    """Top and bottom change places.

    rate: the share of pictures to which it happens
    """

    rate: Fraction = 0.5


class Shift(Spec):
    """Moved by whole pixels, down or up and across, each distance as likely as another.

    share: the furthest, as a share of the height and of the width, rounded down to whole pixels
    border: what comes in: ``zero`` is black, ``reflect`` mirrors at the edge pixels, ``edge`` repeats them
    """

    share: Fraction
    border: Border = "zero"


class Rotate(Spec):
    """Turned about the middle.

    degrees: the furthest, either way
    """

    degrees: PositiveFloat


class Affine(Spec):
    """Sheared and scaled, then turned about the middle, then moved by parts of pixels.

    rotate: degrees, the furthest, either way
    scale: the least and the greatest factor; above 1 what is shown grows
    shear: degrees, the furthest by which columns and rows lean, each by itself
    translate: the furthest, as a share of the height and of the width
    """

    rotate: NonNegativeFloat = 0.0
    scale: Range = (1.0, 1.0)
    shear: NonNegativeFloat = 0.0
    translate: Fraction = 0.0


class Elastic(Spec):
    """Each pixel is read some way off, by a field of random numbers made smooth (Simard and others, ICDAR 2003).

    alpha: what the field, uniform in [-1, 1] before it is smoothed, is multiplied with, in pixels
    sigma: deviation of the Gaussian that smooths it, in pixels
    """

    alpha: PositiveFloat = 34.0
    sigma: PositiveFloat = 4.0


class Cutout(Spec):
    """A square goes blank; its centre is any pixel, so that it may reach over the edge (DeVries, Taylor 2017).

    size: its side in pixels
    rate: the share of pictures to which it happens
    fill: ``mean`` is 0 after normalisation, ``black`` is a pixel of value 0
    """

    size: PositiveInt
    rate: NonNegativeFloat = 1.0
    fill: Fill = "mean"


class Erase(Spec):
    """Random erasing: a rectangle inside of the picture goes blank (Zhong, Zheng, Kang, Li, Yang 2017).

    rate: the share of pictures to which it happens
    area: the least and the greatest part of the picture
    ratio: the least and the greatest height as a multiple of the width, drawn on a logarithmic scale
    fill: ``mean`` is 0 after normalisation, ``black`` is a pixel of value 0
    """

    rate: Fraction = 0.5
    area: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    fill: Fill = "mean"


class Colour(Spec):
    """Colours vary. One map of colours does all four at once; 8-bit pictures are then held within 0 and 255.

    brightness: 0.2 multiplies with a factor from 0.8 to 1.2
    contrast: the same for the distance from the picture's mean grey
    saturation: the same for the distance from the pixel's own grey
    hue: the furthest turn about the grey axis (in YIQ), either way; 0.5 is half a circle
    """

    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Fraction = 0.0


class Mixup(Spec):
    """Two pictures laid over each other, their labels shared out alike (Zhang, Cisse, Dauphin, Lopez-Paz, ICLR 2018).

    Who is mixed with whom is chance: two that follow each other in the epoch's order. Training accuracy then counts
    the label of the larger share.

    alpha: both parameters of the beta distribution of the share; small leaves most pictures nearly alone, 1 is uniform
    rate: the share of pairs to which it happens
    """

    alpha: PositiveFloat = 0.2
    rate: NonNegativeFloat = 1.0


class Cutmix(Spec):
    """Two pictures swap a rectangle, their labels shared out by its area (Yun and others, ICCV 2019).

    The rectangle's middle is any pixel, so that it may be cut off at the edge; what is left of it counts. Otherwise as
    mixup.

    alpha: both parameters of the beta distribution of the share that is kept
    rate: the share of pairs to which it happens
    """

    alpha: PositiveFloat = 1.0
    rate: NonNegativeFloat = 0.5


class AugmentSpec(Spec):
    """``augment:`` what is done to training pictures, in this order and each epoch anew; never in validation or test.

    What a picture gets follows from the run's seed, the epoch and the picture's number alone. ``rotate``, ``affine``
    and ``elastic`` are one bilinear interpolation: the field is added to where the other two read.

    crop: cut out of the padded picture at random
    flip: left and right change places at random
    vertical_flip: top and bottom change places at random
    shift: moved by whole pixels
    rotate: turned about the middle
    affine: turned, scaled, sheared and moved
    elastic: distorted like rubber
    border: what ``rotate``, ``affine`` and ``elastic`` find outside: ``zero``, ``reflect`` or ``edge`` as in shift
    colour: brightness, contrast, saturation and hue vary
    cutout: a square goes blank
    erase: a rectangle goes blank at random
    mixup: two pictures are laid over each other, and their labels
    cutmix: two pictures swap a part; pairs to which that happens are not laid over each other
    """

    crop: Crop | None = None
    flip: Flip | None = None
    vertical_flip: VerticalFlip | None = None
    shift: Shift | None = None
    rotate: Rotate | None = None
    affine: Affine | None = None
    elastic: Elastic | None = None
    border: Border = "zero"
    colour: Colour | None = None
    cutout: Cutout | None = None
    erase: Erase | None = None
    mixup: Mixup | None = None
    cutmix: Cutmix | None = None

    @property
    def mixes(self) -> bool:
        """Do pictures get parts of others, and of their labels?"""
        return any(kind is not None and kind.rate for kind in (self.mixup, self.cutmix))

    def mistakes(self, height: int, width: int, channels: int = 3) -> Iterator[ConfigError]:
        """What cannot be done to pictures of this size, which is the model's input, or to any."""
        least = min(height, width)
        if self.crop is not None and self.crop.padding >= least:
            yield ConfigError(
                f"augment: a border of {self.crop.padding} pixels around pictures of {height}x{width}",
                path=("augment", "crop", "padding"),
                why=f"{self.crop.padding} is not below {least}: a crop might hold nothing of the picture",
                fix=f"padding: {max(1, least // 8)}" if least > 1 else "augment.crop: null",
            )
        if self.shift is not None and int(self.shift.share * max(height, width)) == 0:
            yield ConfigError(
                f"augment: a shift by {self.shift.share:g} of pictures of {height}x{width} moves nothing",
                path=("augment", "shift", "share"),
                why=f"{self.shift.share:g} * {max(height, width)} is less than one pixel",
                fix=f"share: {1 / least + 0.005:.2f}" if least > 1 else "augment.shift: null",
            )
        if self.rotate is not None and self.rotate.degrees > 180:
            yield _beyond(("rotate", "degrees"), self.rotate.degrees, "180 degrees either way is a whole circle", 180)
        if self.affine is not None:
            yield from self._affine(self.affine)
        if self.elastic is not None and self.elastic.sigma > 4 * max(height, width):
            yield _beyond(
                ("elastic", "sigma"), self.elastic.sigma, f"the picture has {height}x{width} pixels", least / 7
            )
        for name, kind in (("cutout", self.cutout), ("mixup", self.mixup), ("cutmix", self.cutmix)):
            if kind is not None and kind.rate > 1:
                yield _beyond((name, "rate"), kind.rate, "a share is at most 1", 1)
        if self.cutout is not None:
            yield from self._cutout(self.cutout, height, width)
        if self.erase is not None:
            yield from self._erase(self.erase)
        if self.colour is not None:
            yield from self._colour(self.colour, channels)

    def _affine(self, affine: Affine) -> Iterator[ConfigError]:
        if affine.rotate > 180:
            yield _beyond(("affine", "rotate"), affine.rotate, "180 degrees either way is a whole circle", 180)
        if affine.shear >= 45:
            yield _beyond(("affine", "shear"), affine.shear, "at 45 degrees a picture is a line", 20)
        yield from _ordered(("affine", "scale"), affine.scale)
        low, high = affine.scale
        if low <= high and (low < 0.1 or high > 10):
            yield ConfigError(
                f"augment: scale from {low:g} to {high:g}",
                path=("augment", "affine", "scale"),
                why="below 0.1 and above 10 nothing of a picture can be recognised",
                fix="scale: [0.9, 1.1]",
            )

    def _cutout(self, cutout: Cutout, height: int, width: int) -> Iterator[ConfigError]:
        if cutout.size >= min(height, width):
            yield ConfigError(
                f"augment: a cutout of {cutout.size} pixels from pictures of {height}x{width}",
                path=("augment", "cutout", "size"),
                why=f"{cutout.size} is not below {min(height, width)}: it might leave nothing of the picture",
                fix=f"size: {max(1, min(height, width) // 2)}" if min(height, width) > 1 else "augment.cutout: null",
            )

    def _erase(self, erase: Erase) -> Iterator[ConfigError]:
        if erase.area[1] >= 1:
            yield ConfigError(
                f"augment: an area of {erase.area[1]:g} of the picture to erase",
                path=("augment", "erase", "area"),
                why="it is a share of the picture, and at 1 nothing is left",
                fix="area: [0.02, 0.33]",
            )
        yield from _ordered(("erase", "area"), erase.area)
        yield from _ordered(("erase", "ratio"), erase.ratio)

    def _colour(self, colour: Colour, channels: int) -> Iterator[ConfigError]:
        if colour.hue > 0.5:
            yield _beyond(("colour", "hue"), colour.hue, "half a circle either way is a whole one", 0.5)
        for name in ("saturation", "hue"):
            if getattr(colour, name) and channels != 3:
                yield ConfigError(
                    f"augment: {name} of pictures of {channels} channel{'s' if channels > 1 else ''}",
                    path=("augment", "colour", name),
                    why="only pictures of three channels have colours",
                    fix=f"{name}: 0",
                )


def _beyond(path: tuple[str, str], value: float, why: str, good: float) -> ConfigError:
    return ConfigError(
        f"augment: {path[0]}.{path[1]} of {value:g}",
        path=("augment", *path),
        why=why,
        fix=f"{path[1]}: {good:.3g}",
    )


def _ordered(path: tuple[str, str], between: tuple[float, float]) -> Iterator[ConfigError]:
    low, high = between
    if low > high:
        yield ConfigError(
            f"augment: {path[0]}.{path[1]} from {low:g} to {high:g}",
            path=("augment", *path),
            why=f"the least comes first, and {low:g} is above {high:g}",
            fix=f"{path[1]}: [{high:g}, {low:g}]",
        )
