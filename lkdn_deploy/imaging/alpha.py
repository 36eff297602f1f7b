"""Colours for fully transparent pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.imaging.bands import RowSource
from lkdn_deploy.imaging.pixels import Pixels

Level = tuple[NDArray[Any], NDArray[Any]]
"""Values (h, w, C) and weights (h, w) of a grid, float32."""

_HALVINGS = 4  # from the picture to the grid that is kept whole, of a 256th of its pixels
_BLOCK = 1 << _HALVINGS  # rows of the picture to one of that grid
_CHUNK = 1 << 20  # pixels filled at once, about


class FilledColour:
    """The colours of a picture with alpha, extended smoothly over its fully transparent pixels; a ``RowSource``.

    Straight alpha leaves arbitrary colours, often black, under transparent pixels, and a convolutional network would
    smear them into visible ones. The method is push-pull: average the visible colours on ever coarser grids, then fill
    each finer grid's gaps from the coarser one. It is linear in the number of pixels. Only a coarse grid is kept of the
    whole picture; from it, the finer ones are made again for the rows that are read.

    Visible pixels stay equal bit for bit; all do if none is fully transparent, or all are.

    Args:
        source: the picture, whose last channel is alpha: 0 for fully transparent. It is read once, and twice if some of
            its pixels are fully transparent.

    Attributes:
        constant_alpha: the alpha of all pixels, if it is the same for all.
    """

    def __init__(self, source: RowSource) -> None:
        height, width, channels = source.shape
        self._source = source
        self.shape = (height, width, channels - 1)
        self.dtype = source.dtype
        self._step = max(_CHUNK // width // _BLOCK, 1) * _BLOCK
        bounds = [(alpha.min(), alpha.max()) for alpha in (rows[..., -1] for rows in self._chunks())]
        lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
        self.constant_alpha = lowest if lowest == highest else None
        self._coarse = self._fill_coarse() if lowest == 0 < highest else None

    def read(self, top: int, bottom: int) -> Pixels:
        """Return the colours of rows, as ``RowSource.read`` does."""
        if self._coarse is None:
            return self._source.read(top, bottom)[..., :-1]
        first, last = _surroundings(top, bottom)
        rows = self._source.read(first, min(last, self.shape[0]))
        kept = rows[top - first : bottom - first]
        if (kept[..., -1] > 0).all():
            return kept[..., :-1]
        parts = range(top, bottom, self._step)
        return np.concatenate([self._filled(rows, first, at, min(at + self._step, bottom)) for at in parts])

    def _chunks(self) -> Iterator[Pixels]:
        height = self.shape[0]
        return (self._source.read(top, min(top + self._step, height)) for top in range(0, height, self._step))

    def _fill_coarse(self) -> NDArray[Any]:
        """Return the coarse grid of the whole picture, without gaps."""
        parts = [_halved(rows)[-1] for rows in self._chunks()]
        levels = [(np.concatenate([values for values, _ in parts]), np.concatenate([weights for _, weights in parts]))]
        while not (levels[-1][1] > 0).all():
            levels.append(_coarser(*levels[-1]))
        filled, _ = levels.pop()
        return _pulled(filled, levels)

    def _filled(self, rows: Pixels, origin: int, top: int, bottom: int) -> Pixels:
        """Return the colours of ``top..bottom``, given the rows from ``origin`` to beyond their surroundings."""
        assert self._coarse is not None  # noqa: S101
        first, last = _surroundings(top, bottom)
        *levels, _ = _halved(rows[first - origin : last - origin])
        filled = _pulled(self._coarse[first // _BLOCK : last // _BLOCK], levels)[top - first : bottom - first]
        if np.issubdtype(self.dtype, np.integer):
            filled = np.rint(filled)
        kept = rows[top - origin : bottom - origin]
        colours: Pixels = np.where(kept[..., -1:] > 0, kept[..., :-1], filled.astype(self.dtype))
        return colours


def _surroundings(top: int, bottom: int) -> tuple[int, int]:
    """Return the rows from which those of ``top..bottom`` are filled: whole blocks, and one more on each side.

    Where rows are cut off, the interpolation lacks a neighbour. Over all levels it goes wrong for less than a block.
    """
    return max(top // _BLOCK - 1, 0) * _BLOCK, (-(-bottom // _BLOCK) + 1) * _BLOCK


def _halved(rows: Pixels) -> list[Level]:
    """Return the grids of rows that begin with a block, from their own down to the coarse one."""
    # Weighted by alpha, since the colour of hardly visible pixels is hardly known.
    levels = [(rows[..., :-1].astype(np.float32), rows[..., -1].astype(np.float32))]
    for _ in range(_HALVINGS):
        levels.append(_coarser(*levels[-1]))
    return levels


def _pulled(filled: NDArray[Any], levels: list[Level]) -> NDArray[Any]:
    """Fill the gaps of ever finer grids, the last of which comes first, from one without gaps."""
    for values, weights in reversed(levels):
        finer = _finer(filled, *weights.shape)
        filled = np.where(weights[..., None] > 0, values, finer)
    return filled


def _coarser(values: NDArray[Any], weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Halve both sides, rounding up: each cell is the weighted mean of up to four, its weight their sum."""
    sums = _pair_sums(_pair_sums(values * weights[..., None], 0), 1)
    total = _pair_sums(_pair_sums(weights, 0), 1)
    sums /= np.where(total > 0, total, 1)[..., None]
    return sums, total


def _pair_sums(grid: NDArray[Any], axis: int) -> NDArray[Any]:
    """Add each pair of neighbours along ``axis``; a last one without a neighbour stays as it is."""
    grid = grid if axis == 0 else grid.swapaxes(0, 1)
    sums = grid[0::2].copy(order="K")
    sums[: len(grid) // 2] += grid[1::2]
    return sums if axis == 0 else sums.swapaxes(0, 1)


def _finer(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Double both sides by bilinear interpolation, cropped to (height, width)."""
    return _doubled(_doubled(values, 0, height), 1, width)


def _doubled(values: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    at = np.arange(length)
    near = at // 2
    far = np.clip(near + at % 2 * 2 - 1, 0, values.shape[axis] - 1)
    unit = values.dtype.type
    doubled: NDArray[Any] = unit(0.75) * values.take(near, axis) + unit(0.25) * values.take(far, axis)
    return doubled
