"""Colours for fully transparent pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill_transparent(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Extend the visible colours smoothly over fully transparent pixels.

    Straight alpha leaves arbitrary colours, often black, under transparent pixels, and a convolutional network would
    smear them into visible ones. The method is push-pull: average the visible colours on ever coarser grids, then fill
    each finer grid's gaps from the coarser one. It is linear in the number of pixels.

    Args:
        colour: (H, W, C) or (H, W) uint8, uint16 or float32.
        alpha: (H, W), 0 for fully transparent, in the range of ``colour``.

    Returns:
        An array like ``colour``, equal bit for bit where alpha is not 0; ``colour`` itself if no pixel is fully
        transparent, or all are.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return colour
    planes = np.atleast_3d(colour)
    # Weighted by alpha, since the colour of hardly visible pixels is hardly known.
    levels = [(planes.astype(np.float32), alpha.astype(np.float32))]
    while not (levels[-1][1] > 0).all():
        levels.append(_coarser(*levels[-1]))
    filled, _ = levels.pop()
    for values, weights in reversed(levels):
        finer = _finer(filled, *weights.shape)
        filled = np.where(weights[..., None] > 0, values, finer)
    if np.issubdtype(colour.dtype, np.integer):
        filled = np.rint(filled)
    return np.where(visible[..., None], planes, filled.astype(colour.dtype)).reshape(colour.shape)


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
