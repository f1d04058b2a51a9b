"""``data:`` which samples, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cnnforge.fields import Fraction, NonNegativeFloat, PositiveInt, Spec, one_of
from cnnforge.shapes import Shape


class DataSpec(Spec):
    """What every data set's config has.

    root:       folder of the files; where it lacks them, ``$CNNFORGE_DATA/NAME``, then the user's cache
    validation: share of the training samples held out for validation, drawn at random by ``seed``
    normalize:  ``standard`` to mean 0 and deviation 1 per channel, measured on the training samples;
                ``unit`` to [0, 1]: 8-bit pixels / 255, floats by the least and greatest training value; ``none``
    resize:     what to do where pictures are not as large as the model's input
    limit:      use only so many training samples, the first ones of the random draw that makes the splits
    """

    type: str
    root: str | None = None
    validation: Fraction = 0.1
    normalize: Literal["standard", "unit", "none"] = "standard"
    resize: Literal["bilinear", "nearest", "pad", "refuse"] = "bilinear"
    limit: PositiveInt | None = None

    def shape(self) -> Shape | None:
        """(H, W, C) of a picture as stored, where it is known without reading; else None."""
        return None

    def class_count(self) -> int | None:
        """Number of classes, where it is known without reading; else None."""
        return None

    def stored(self) -> tuple[int, float] | None:
        """(training samples as stored, share of them cut off for the test), where known without reading; else None."""
        return None

    def training_samples(self) -> int | None:
        """Samples of an epoch, validation taken away and ``limit`` applied, where known without reading; else None."""
        stored = self.stored()
        if stored is None:
            return None
        rest = stored[0] - share_of(*stored)
        rest -= share_of(rest, self.validation)
        return min(rest, self.limit or rest)


def share_of(n: int, share: float) -> int:
    """``share`` of ``n`` samples, halves rounded up."""
    return int(n * share + 0.5)


class DigitsData(DataSpec):
    """``digits``: 1,797 real handwritten digits, 8x8x1, that come with scikit-learn (UCI Optical Recognition, 1998).

    test: share of the samples held out for the test
    """

    type: Literal["digits"]
    test: Fraction = 0.2

    def shape(self) -> Shape:
        return 8, 8, 1

    def class_count(self) -> int:
        return 10

    def stored(self) -> tuple[int, float]:
        return 1797, self.test


class MnistData(DataSpec):
    """``mnist``: 60,000 + 10,000 handwritten digits, 28x28x1, IDX files, plain or gzip (LeCun et al., 1998)."""

    type: Literal["mnist"]

    def shape(self) -> Shape:
        return 28, 28, 1

    def class_count(self) -> int:
        return 10

    def stored(self) -> tuple[int, float]:
        return 60_000, 0.0


class NpzData(DataSpec):
    """``npz``: your own arrays in one NumPy file: ``x`` and ``y``, or ``x_train, y_train, x_test, y_test``.

    path:    the file; a relative path is looked for in ``root``, in the working directory, then as other files are
    layout:  ``channels_first`` takes (N, C, H, W)
    classes: number of classes; needed for a classifier, so that a mistake shows before the file is read
    test:    share held out for the test where the file has no test arrays; likewise ``validation`` and ``x_val, y_val``
    """

    type: Literal["npz"]
    path: str
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    classes: PositiveInt | None = None
    test: Fraction = 0.2

    def class_count(self) -> int | None:
        return self.classes


class SyntheticData(DataSpec):
    """``synthetic``: blurred class patterns plus noise, made on the spot: for tests and timing, not for learning.

    samples: training samples;  test_samples: the same for the test
    classes: number of classes
    size:    (height, width, channels), the model's input where not given
    noise:   deviation of the noise beside patterns of deviation 1
    """

    type: Literal["synthetic"]
    samples: PositiveInt = 1024
    test_samples: PositiveInt = 256
    classes: PositiveInt = 10
    size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    noise: NonNegativeFloat = 0.5

    def shape(self) -> Shape | None:
        return self.size

    def class_count(self) -> int:
        return self.classes

    def stored(self) -> tuple[int, float]:
        return self.samples, 0.0


DATA = (DigitsData, MnistData, NpzData, SyntheticData)
if TYPE_CHECKING:
    AnyData = DataSpec
else:
    AnyData = one_of(DATA)
