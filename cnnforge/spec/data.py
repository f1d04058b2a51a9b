"""``data:`` which samples, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, Strict, model_validator

from cnnforge.fields import Bool, Fraction, NonNegativeFloat, PositiveInt, Spec, one_of
from cnnforge.shapes import Shape


class DataSpec(Spec):
    """What every data set's config has.

    root:       folder of the files; where it lacks them, ``$CNNFORGE_DATA/NAME``, then the user's cache
    validation: share of the training samples held out for validation, drawn at random by ``seed``
    normalize:  ``standard`` to mean 0 and deviation 1 per channel, measured on the training samples;
                ``unit`` to [0, 1]: 8-bit pixels / 255, floats by the least and greatest training value; ``none``
    resize:     what to do where pictures are not as large as the model's input
    folds:      cut the training samples into so many parts, each of which is validation once: a run for each, and their
                mean (cross-validation); ``validation`` then does not count
    fold:       of ``folds``, the one part (from 1) that is validation in this run
    stratify:   cut every class in the same shares, so that each part has as many of each as the whole
    limit:      use only so many training samples, the first ones of the random draw that makes the splits
    """

    type: str
    root: str | None = None
    validation: Fraction = 0.1
    normalize: Literal["standard", "unit", "none"] = "standard"
    resize: Literal["bilinear", "nearest", "pad", "refuse"] = "bilinear"
    folds: Annotated[int, Strict(), Field(ge=2)] | None = None
    fold: PositiveInt | None = None
    stratify: Bool = False
    limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _a_fold_of_some(self) -> DataSpec:
        if self.fold is not None and self.fold > (self.folds or 0):
            raise ValueError(f"fold {self.fold} of {self.folds or 'no'} folds")
        return self

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
        rest -= share_of(rest, self.validation) if self.folds is None else rest // self.folds
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


class PublishedSpec(DataSpec):
    """What data sets have whose files are published.

    download: fetch them into the user's cache where no place has them; ``CNNFORGE_OFFLINE`` forbids it everywhere
    """

    download: Bool = True


class IdxSpec(PublishedSpec):
    """What MNIST and those made in its image have: ten classes of 28x28x1 in four files."""

    def shape(self) -> Shape:
        return 28, 28, 1

    def class_count(self) -> int:
        return 10

    def stored(self) -> tuple[int, float]:
        return 60_000, 0.0


class MnistData(IdxSpec):
    """``mnist``: 60,000 + 10,000 handwritten digits, 28x28x1, IDX files, plain or gzip (LeCun et al., 1998)."""

    type: Literal["mnist"]


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


class FashionMnistData(IdxSpec):
    """``fashion_mnist``: 60,000 + 10,000 pieces of clothing, 28x28x1, IDX files like MNIST's (Xiao et al., 2017)."""

    type: Literal["fashion_mnist"]


class PicturesSpec(DataSpec):
    """What data sets of picture files have.

    size:     ``[height, width]`` that every picture is brought to; where not given, they stay as they are if all are
              alike, else take the model's input
    fit:      how: ``crop`` scales the shorter side and cuts the middle out, ``pad`` scales the longer side and puts
              black around, ``stretch`` scales both
    channels: 1 grey, 3 red, green and blue; the model's where not given
    classes:  names of the classes in the order of their numbers, or how many there are, sorted by name. Left out, the
              command counts them before anything else, and the units of a last softmax layer that only a model file
              states become as many; from a compressed tar of more than 64 MiB they are not counted, but have to be said
    positive: names of the classes that are 1; all others are 0: a yes-or-no question
    on_error: what a file that is no whole picture is: an ``error``, or left out and counted, ``skip``
    test:     share held out for the test where there is no test part; likewise ``validation``
    cache:    keep what was decoded in the user's cache
    """

    path: str
    size: tuple[PositiveInt, PositiveInt] | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    channels: Literal[1, 3] | None = None
    classes: tuple[str, ...] | PositiveInt | None = None
    positive: tuple[str, ...] = ()
    on_error: Literal["error", "skip"] = "error"
    test: Fraction = 0.2
    cache: Bool = True

    def class_count(self) -> int | None:
        if self.positive:
            return 2
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> PicturesSpec:
        if isinstance(self.classes, tuple) and (other := set(self.positive) - set(self.classes)):
            raise ValueError(f"positive names {', '.join(sorted(other))}, and classes does not")
        return self


class ImageFolderData(PicturesSpec):
    """``image_folder``: pictures in one folder per class, or such a folder in a tar or zip file, which is not unpacked.

    ``CLASS/*.png``, or ``train/CLASS/…`` with ``val/`` and ``test/`` beside it.

    path: the folder or archive; a relative one is looked for in ``root``, in the working directory, then in
          ``$CNNFORGE_DATA`` and the user's cache
    """

    type: Literal["image_folder"]


class ManifestData(PicturesSpec):
    """``manifest``: pictures that a CSV file lists, with a header ``path,label`` or ``path,label,split``.

    path: the CSV file, looked for like an ``image_folder``; paths in it are relative to it
    """

    type: Literal["manifest"]


class Cifar10Data(PublishedSpec):
    """``cifar10``: 50,000 + 10,000 pictures, 32x32x3, of ten kinds of things (Krizhevsky, 2009).

    Reads the binary version, and the one for Python without running what is pickled in it; unpacked or as tar.gz.
    """

    type: Literal["cifar10"]

    def shape(self) -> Shape:
        return 32, 32, 3

    def class_count(self) -> int:
        return 10

    def stored(self) -> tuple[int, float]:
        return 50_000, 0.0


class EdgesData(DataSpec):
    """``edges``: the digits, and for labels what an edge filter gives of them: for learning the filter back.

    filter: which one; see ``init: {filter: …}``
    test:   share of the pictures held out for the test
    """

    type: Literal["edges"]
    normalize: Literal["standard", "unit", "none"] = "none"
    filter: Literal[
        "vertical", "horizontal", "sobel_vertical", "sobel_horizontal", "scharr_vertical", "scharr_horizontal"
    ] = "sobel_vertical"
    test: Fraction = 0.2

    def shape(self) -> Shape:
        return 8, 8, 1

    def stored(self) -> tuple[int, float]:
        return 1797, self.test


DATA = (
    DigitsData, EdgesData, MnistData, FashionMnistData, Cifar10Data, ImageFolderData, ManifestData, NpzData,
    SyntheticData,
)  # fmt: skip
if TYPE_CHECKING:
    AnyData = DataSpec
else:
    AnyData = one_of(DATA)
