"""Augmentation that changes pixels: what is drawn, and what NumPy makes of it.

In this order, on pictures that crops, flips and shifts have moved already: one bilinear interpolation for rotation,
affine map and elastic field together; one map of colours; rectangles that go blank, behind normalisation. Pixels are
float32 from the first to the last, never rounded to bytes in between. Compiled code (``Backend.distort``) takes
the same draws and gives the same numbers: to the bit where rectangles are all there is, else to 0.01 grey levels.
"""

from __future__ import annotations

from math import log, radians

import numpy as np
from numpy.typing import NDArray

from cnnforge import rng
from cnnforge.backends.base import DRAWN, Distortion
from cnnforge.spec import AugmentSpec

#: Grey of red, green and blue, and YIQ's two axes of colour (NTSC 1953).
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
#: As float32: the weights of a picture's mean grey.
GREY = YIQ[0].astype(np.float32)
#: How many deviations of a Gaussian count.
REACH = 3.0


class Distortions:
    """What ``spec`` may do to pictures of ``size`` (H, W) beside moving them.

    mean, factor: (c,) float32, the normalisation: (x - mean) * factor;  bytes: do pixels lie between 0 and 255?
    """

    def __init__(
        self,
        spec: AugmentSpec,
        size: tuple[int, int],
        seed: int,
        constants: tuple[NDArray[np.float32], NDArray[np.float32]],
        bytes: bool,
    ) -> None:
        self._spec, self._size, self._seed = spec, size, seed
        self._mean, self._factor = constants
        elastic = spec.elastic
        smooth = [smoothing(n, elastic.sigma) if elastic else None for n in size]
        if elastic is not None and smooth[0] is not None:
            smooth[0] *= np.float32(elastic.alpha)
        black, blank = -self._mean * self._factor, np.zeros_like(self._mean)
        self.how = Distortion(
            key=rng.stream(seed, "augment", "elastic"),
            down=smooth[0],
            across=smooth[1],
            warped=any((spec.rotate, spec.affine, elastic)),
            coloured=spec.colour is not None,
            border=("zero", "reflect", "edge").index(spec.border),
            fills=np.stack(
                [black if kind is not None and kind.fill == "black" else blank for kind in (spec.cutout, spec.erase)]
            ),
            grey=GREY if len(self._mean) == 3 else np.full(len(self._mean), 1 / len(self._mean), np.float32),
            top=255.0 if bytes else None,
        )

    @property
    def nothing(self) -> bool:
        """Does every pixel stay as it is?"""
        return not (self.how.warped or self.how.coloured or self._spec.cutout or self._spec.erase)

    def draws(self, samples: int, epoch: int) -> NDArray[np.float32]:
        """(samples, DRAWN) float32: what each sample gets in an epoch; ``backends.base.DRAWN`` says what is where.

        Sample i's are a pure function of (seed, epoch, i): words of the streams ``augment:rotate`` (0: angle),
        ``augment:affine`` (0: angle, 1: scale, 2, 3: shear, 4, 5: translation), ``augment:colour`` (0: brightness,
        1: contrast, 2: saturation, 3: hue), ``augment:cutout`` (0: whether, 1, 2: centre), ``augment:erase`` (0:
        whether, 1: area, 2: ratio, 3, 4: corner). The elastic field is drawn where it is used, from
        ``augment:elastic``: a word for each pixel, of displacements down and then of those across.
        """
        drawn = np.zeros((samples, DRAWN), np.float32)
        drawn[:, :6] = self._maps(samples, epoch)
        drawn[:, 6:10], drawn[:, 10:14] = self._cutouts(samples, epoch), self._erasings(samples, epoch)
        drawn[:, 14:24] = self._colours(samples, epoch)
        return drawn

    def apply(
        self, x: NDArray[np.float32], numbers: NDArray[np.int64], drawn: NDArray[np.float32], epoch: int
    ) -> NDArray[np.float32]:
        """x: (N, H, W, c) float32, moved, of the samples ``numbers`` (N,), drawn (N, DRAWN) -> the same, normalised."""
        if self.how.warped:
            x = self._warped(x, numbers, drawn, epoch)
        if self.how.coloured:
            x = self._coloured(x, drawn)
        x = (x - self._mean) * self._factor
        rows, columns = (np.arange(n, dtype=np.float32) for n in self._size)
        for k, fill in enumerate(self.how.fills):
            top, left, bottom, right = drawn[:, 6 + 4 * k : 10 + 4 * k, None].transpose(1, 0, 2)
            blank = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
            x[blank] = fill
        return np.asarray(x)

    def _warped(
        self, x: NDArray[np.float32], numbers: NDArray[np.int64], drawn: NDArray[np.float32], epoch: int
    ) -> NDArray[np.float32]:
        n, (height, width) = len(x), self._size
        h, w = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
        a = drawn[:, :6, None, None]
        places = [a[:, 0] * h + a[:, 1] * w + a[:, 2], a[:, 3] * h + a[:, 4] * w + a[:, 5]]
        if self.how.down is not None and self.how.across is not None:
            words = rng.words(self.how.key, numbers, 2 * height * width, epoch)
            noise = ((words >> 8).astype(np.float32) * np.float32(2**-23) - 1).reshape(n, 2, height, width)
            field = self.how.down @ noise @ self.how.across.T
            places = [place + field[:, k] for k, place in enumerate(places)]
        whole = [np.floor(place) for place in places]
        rest = [place - low for place, low in zip(places, whole, strict=True)]
        out = np.zeros_like(x)
        for down in (0, 1):
            for across in (0, 1):
                row, inside = bordered(whole[0].astype(np.int64) + down, height, self.how.border)
                column, also = bordered(whole[1].astype(np.int64) + across, width, self.how.border)
                share = (rest[0] if down else 1 - rest[0]) * (rest[1] if across else 1 - rest[1])
                out += (share * (inside & also))[..., None] * x[np.arange(n)[:, None, None], row, column]
        return out

    def _coloured(self, x: NDArray[np.float32], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        c = x.shape[3]
        grey = (x @ self.how.grey).mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
        maps = drawn[:, 14:23].reshape(-1, 3, 3)
        # Saturation and hue leave grey alone, so that a row's sum is contrast times brightness.
        scale = maps[:, 0].sum(axis=1)[:, None, None, None]
        x = np.einsum("nhwc,nkc->nhwk", x, maps) if c == 3 else x * scale
        x = x + (drawn[:, 23] * grey)[:, None, None, None]
        return x if self.how.top is None else np.clip(x, 0, np.float32(self.how.top))

    def _uniform(self, name: str, samples: int, words: int, epoch: int) -> NDArray[np.float64]:
        """(words, samples) in [0, 1), 24 random bits each."""
        drawn = rng.words(rng.stream(self._seed, "augment", name), np.arange(samples), words, epoch)
        return np.asarray((drawn >> 8).T * 2.0**-24)

    def _maps(self, samples: int, epoch: int) -> NDArray[np.float64]:
        """(samples, 6): source row = 0 h + 1 w + 2, source column = 3 h + 4 w + 5: from where output (h, w) is read."""
        height, width = self._size
        angle, scale = np.zeros(samples), np.ones(samples)
        lean, moved = np.zeros((2, samples)), np.zeros((2, samples))
        if self._spec.rotate is not None:
            (u,) = self._uniform("rotate", samples, 1, epoch)
            angle += radians(self._spec.rotate.degrees) * (2 * u - 1)
        if (affine := self._spec.affine) is not None:
            u = self._uniform("affine", samples, 6, epoch)
            angle += radians(affine.rotate) * (2 * u[0] - 1)
            scale = affine.scale[0] + (affine.scale[1] - affine.scale[0]) * u[1]
            lean = np.tan(radians(affine.shear) * (2 * u[2:4] - 1))
            moved = affine.translate * np.array([[height], [width]]) * (2 * u[4:6] - 1)
        # Forward, on (row, column) about the middle: shear and scale, then turn; a picture is read by the inverse.
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        shear = np.array([[np.ones(samples), lean[0]], [lean[1], np.ones(samples)]])
        (a, b), (c, d) = np.einsum("ijn,jkn->ikn", turn, shear) * scale
        inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
        middle = np.array([[(height - 1) / 2], [(width - 1) / 2]])
        offset = middle - np.einsum("ijn,jn->in", inverse, middle + moved)
        return np.concatenate([inverse[0], offset[:1], inverse[1], offset[1:]]).T

    def _cutouts(self, samples: int, epoch: int) -> NDArray[np.float64]:
        """(samples, 4): top, left, bottom, right."""
        if (cutout := self._spec.cutout) is None:
            return np.zeros((samples, 4))
        u = self._uniform("cutout", samples, 3, epoch)
        first = np.floor(u[1:] * np.array(self._size)[:, None]) - cutout.size // 2
        return np.where((u[0] < cutout.rate)[:, None], self._within(first, first + cutout.size), 0.0)

    def _erasings(self, samples: int, epoch: int) -> NDArray[np.float64]:
        """(samples, 4): top, left, bottom, right."""
        if (erase := self._spec.erase) is None:
            return np.zeros((samples, 4))
        height, width = self._size
        u = self._uniform("erase", samples, 5, epoch)
        area = height * width * (erase.area[0] + (erase.area[1] - erase.area[0]) * u[1])
        ratio = np.exp(log(erase.ratio[0]) + (log(erase.ratio[1]) - log(erase.ratio[0])) * u[2])
        sides = np.rint(np.sqrt([area * ratio, area / ratio]))
        sides = np.clip(sides, 1, np.array(self._size)[:, None])
        first = np.floor(u[3:] * (np.array(self._size)[:, None] + 1 - sides))
        return np.where((u[0] < erase.rate)[:, None], self._within(first, first + sides), 0.0)

    def _within(self, first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
        size = np.array(self._size)[:, None]
        return np.concatenate([np.clip(first, 0, size), np.clip(last, 0, size)]).T

    def _colours(self, samples: int, epoch: int) -> NDArray[np.float64]:
        """(samples, 10): a map of (red, green, blue) by rows, and what the picture's mean grey is multiplied with."""
        if (colour := self._spec.colour) is None:
            return np.zeros((samples, 10))
        most = np.array([[colour.brightness], [colour.contrast], [colour.saturation], [colour.hue]])
        spread = most * (2 * self._uniform("colour", samples, 4, epoch) - 1)
        bright, contrast, saturation = 1 + spread[:3]
        turn = 2 * np.pi * spread[3]
        one, none = np.ones(samples), np.zeros(samples)
        cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
        turned = np.array([[one, none, none], [none, cos, -sin], [none, sin, cos]])
        maps = np.einsum("ij,jkn,kl->nil", np.linalg.inv(YIQ), turned, YIQ) * (bright * contrast)[:, None, None]
        return np.concatenate([maps.reshape(samples, 9), (bright * (1 - contrast))[:, None]], axis=1)


def smoothing(n: int, sigma: float) -> NDArray[np.float32]:
    """(n, n): a Gaussian about each of n places, cut off behind three deviations; nothing lies outside of the n."""
    distance = np.arange(n)[:, None] - np.arange(n)
    reach = int(REACH * sigma)
    whole = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()
    weights = np.exp(-0.5 * (distance / sigma) ** 2) / whole
    return np.where(np.abs(distance) <= reach, weights, 0).astype(np.float32)


def bordered(at: NDArray[np.int64], n: int, border: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of n places stands for each of ``at``, and whether it counts. border: 0 zero, 1 reflect, 2 edge."""
    if border == 1:
        period = max(1, 2 * (n - 1))
        at = at % period
        return np.where(at >= n, period - at, at), np.ones(at.shape, np.bool_)
    inside = (at >= 0) & (at < n)
    return np.clip(at, 0, n - 1), inside | (border == 2)
