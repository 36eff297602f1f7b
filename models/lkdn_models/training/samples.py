"""Sample pictures: a detail as a network enlarges it, between bicubic and the original."""

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.imaging.metrics import luma
from lkdn_deploy.imaging.resample import imresize

SEPARATOR = 4
"""Width in pixels of the white line between two pictures."""
SIDE = 256
"""Largest side in pixels of the detail that is written."""

Region = tuple[slice, slice]
"""Rows and columns."""


def comparison(low: NDArray[np.uint8], upscaled: NDArray[np.uint8], high: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the original's most detailed region in bicubic, ``upscaled`` and the original, side by side.

    The region is at most ``SIDE`` pixels a side. It depends on the original only, so all samples of a picture in a
    training run show the same detail.

    Args:
        low: low-resolution picture, (h, w, 3).
        upscaled: enlarged picture, (scale * h, scale * w, 3).
        high: original, of the same shape.

    Returns:
        (H, 3 W + 2 SEPARATOR, 3) uint8 RGB.

    Raises:
        ValueError: if the sizes do not fit.
    """
    scale = high.shape[0] // low.shape[0]
    if not upscaled.shape == high.shape == (scale * low.shape[0], scale * low.shape[1], 3):
        msg = f"expected one picture at two resolutions, got low {low.shape}, upscaled {upscaled.shape}, {high.shape}"
        raise ValueError(msg)
    region = most_detailed(high, SIDE)
    first, *others = (picture[region] for picture in (imresize(low, scale), upscaled, high))
    line = np.full((first.shape[0], SEPARATOR, 3), 255, np.uint8)
    return np.hstack([first, *(part for picture in others for part in (line, picture))])


def most_detailed(image: NDArray[np.uint8], side: int) -> Region:
    """Return the region with the largest mean absolute luma gradient, at most ``side`` pixels a side."""
    light = luma(image)
    slope = np.abs(np.diff(light, axis=0, append=light[-1:])) + np.abs(np.diff(light, axis=1, append=light[:, -1:]))
    table = np.pad(slope, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # sums of everything above and to the left
    height, width = (min(side, size) for size in light.shape)
    sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
    top, left = (int(at) for at in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + height), slice(left, left + width)
