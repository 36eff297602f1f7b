"""Crops drawn by maps of how far a network is behind its teacher in photographs.

Most of a photograph is easy: half of what a network loses against a better one may lie in an eighth of the pixels, at
sharp edges and thin lines. Crops drawn in proportion to the loss show those places more often.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_models.data.decoded import Photo

CELL = 8
"""Width and height of a cell of a map in LR pixels."""
POWER, CLIP = 0.8, 0.995
"""Crops are drawn in proportion to this power of their mean lag, clipped at this quantile: a few crops would otherwise
be drawn again and again."""


def write_lags(path: Path, lags: Sequence[NDArray[np.float32]]) -> None:
    """Write the maps of some photographs to a file, which appears whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    with publish(path) as part, part.open("wb") as file:
        np.save(file, np.concatenate([lag.ravel() for lag in lags]))


def read_lags(path: Path, photos: Sequence[Photo]) -> list[NDArray[np.float32]]:
    """Read the maps of the same photographs again.

    Raises:
        InputError: if the file cannot be read, or is not of these photographs.
    """
    shapes = [map_shape(photo) for photo in photos]
    sizes = [math.prod(shape) for shape in shapes]
    try:
        flat = open_memmap(path, mode="r")
        if flat.dtype != np.float32 or flat.shape != (sum(sizes),) or not (np.isfinite(flat) & (flat >= 0)).all():
            msg = f"expected {sum(sizes)} numbers of 0 or more, got an array of {flat.dtype} {flat.shape}"
            raise ValueError(msg)
    except Exception as error:  # whatever a damaged header makes numpy trip over
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg, "start another run with --output: it is written when a run starts") from error
    parts = np.split(np.array(flat), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def map_shape(photo: Photo) -> tuple[int, int]:
    """Return the rows and columns of a photograph's map, in which pixels beyond the last whole cell are left out."""
    width, height = photo.size
    return height // CELL, width // CELL


class HardPlaces:
    """Crop positions in photographs, drawn in proportion to the lag of a network."""

    def __init__(self, photos: Sequence[Photo], lags: Sequence[NDArray[np.float32]], patch: int) -> None:
        """Prepare to draw.

        Args:
            photos: photographs, at least ``patch`` LR pixels a side.
            lags: map of each photograph, as ``training.distillation.lag_map`` returns them.
            patch: side of a crop in LR pixels.
        """
        self._photos, self._patch = photos, patch
        means = [_window_means(lag, max(1, patch // CELL)) for lag in lags]
        self._columns = [mean.shape[1] for mean in means]
        self._starts = np.cumsum([0, *(mean.size for mean in means)])
        every = np.concatenate([mean.ravel() for mean in means])
        # Where no crop is behind, all are alike.
        weights = np.minimum(every, np.quantile(every, CLIP)) ** POWER if every.any() else np.ones_like(every)
        self._ends = np.cumsum(weights)

    def draw(self, rng: np.random.Generator) -> tuple[Photo, int, int]:
        """Return a photograph, and the top and left of a crop in LR pixels."""
        # The largest draw may be rounded up to the end itself.
        at = min(int(np.searchsorted(self._ends, rng.random() * self._ends[-1], side="right")), len(self._ends) - 1)
        which = int(np.searchsorted(self._starts, at, side="right")) - 1
        cell = divmod(at - int(self._starts[which]), self._columns[which])
        photo = self._photos[which]
        top, left = (
            min(max(CELL * number + int(rng.integers(-CELL // 2, CELL // 2 + 1)), 0), side - self._patch)
            for number, side in zip(cell, photo.size[::-1], strict=True)
        )
        return photo, top, left


def _window_means(lag: NDArray[np.float32], cells: int) -> NDArray[np.float64]:
    """Return the mean of each window of ``cells`` x ``cells``."""
    tall, wide = (min(cells, side) for side in lag.shape)
    sums = np.pad(lag.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    return np.maximum(windows, 0) / (tall * wide)  # type: ignore[no-any-return]
