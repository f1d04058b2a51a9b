"""Image filters as weights: what a convolution can do before it has learned anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cnnforge.errors import ShapeError
from cnnforge.init.base import Init
from cnnforge.shapes import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of each 3x3 filter, light-to-dark positive: ``vertical`` answers +30 where 10 changes to 0, left to right.
FILTERS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "vertical": ((1, 0, -1), (1, 0, -1), (1, 0, -1)),
    "horizontal": ((1, 1, 1), (0, 0, 0), (-1, -1, -1)),
    "sobel_vertical": ((1, 0, -1), (2, 0, -2), (1, 0, -1)),
    "sobel_horizontal": ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
    "scharr_vertical": ((3, 0, -3), (10, 0, -10), (3, 0, -3)),
    "scharr_horizontal": ((3, 10, 3), (0, 0, 0), (-3, -10, -3)),
}
FilterName = Literal[
    "vertical", "horizontal", "sobel_vertical", "sobel_horizontal", "scharr_vertical", "scharr_horizontal"
]


class Filter(Init):
    """A named 3x3 filter in every channel; a list names one per output filter. Short: ``{filter: sobel_vertical}``.

    name: of the filter
    """

    type: Literal["filter"]
    name: FilterName | tuple[FilterName, ...]

    def check(self, shape: Shape) -> None:
        if len(shape) != 4 or shape[:2] != (3, 3):
            raise ShapeError(
                "init filter: an image filter is 3x3",
                why=f"the weight has shape {shape}",
                fix="kernel: 3, on a conv layer",
            )
        if not isinstance(self.name, str) and len(self.name) != shape[-1]:
            raise ShapeError(
                f"init filter: {len(self.name)} filter names for {shape[-1]} filters",
                why=f"a list names one per filter: {len(self.name)} != {shape[-1]}",
                fix=f"filters: {len(self.name)}, or one name for all of them",
            )

    def fill(self, shape: Shape, fan: tuple[int, int], key: tuple[int, int]) -> NDArray[Any]:
        import numpy as np

        names = (self.name,) * shape[-1] if isinstance(self.name, str) else self.name
        w = np.empty(shape)
        for f, name in enumerate(names):
            w[..., f] = np.array(FILTERS[name], np.float64)[:, :, None]
        return w
