"""Bicubic resampling as MATLAB's ``imresize`` does it, bit for bit on uint8.

The kernel is Keys' cubic with a = -0.5 (Keys, 1981), stretched by 1/scale when shrinking, so that it also removes
what the smaller grid cannot hold. Rows are resampled first, then columns; each pass over a uint8 image is rounded to
uint8. Weights are normalised to sum 1. Beyond its edge the image is mirrored, the outermost pixels included. Output
sizes are ``ceil(scale * size)``.

Low-resolution test images are *defined* by this function, so quality figures depend on every detail of it.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def imresize(
    image: NDArray[np.uint8] | NDArray[np.floating], scale: float | Fraction
) -> NDArray[np.uint8] | NDArray[np.floating]:
    """Resample (H, W) or (H, W, C) by ``scale``; uint8 stays uint8, floats keep their type and are not clipped.

    Pass a third as ``Fraction(1, 3)``, which makes output sizes and sample positions exact.

    Raises:
        ValueError: if the scale is not positive.
    """
    ratio = Fraction(scale)
    if ratio <= 0:
        msg = f"scale must be positive, got {scale}"
        raise ValueError(msg)
    for axis in (0, 1):
        image = _resample(image, axis, ratio)
    return image


def downsample(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Shrink an (H, W, C) image ``scale`` times, after cropping it to a multiple of ``scale``."""
    height, width = (size - size % scale for size in image.shape[:2])
    return imresize(image[:height, :width], Fraction(1, scale))  # type: ignore[return-value]


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' kernel, a = -0.5, with support [-2, 2]."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def taps(size: int, ratio: Fraction, *, wrap: bool = False) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return source indices and weights, both (output size, taps).

    Args:
        size: of the source.
        ratio: output size by that of the source.
        wrap: whether the source goes on at its opposite end, instead of being mirrored.
    """
    stretch = min(float(ratio), 1.0)
    out = np.arange(-(-size * ratio.numerator // ratio.denominator), dtype=np.float64)
    centre = (out + 0.5) / float(ratio) - 0.5
    count = int(np.ceil(4 / stretch)) + 2
    index = np.floor(centre - 2 / stretch).astype(np.intp)[:, None] + np.arange(count)
    weights = _cubic(stretch * (centre[:, None] - index))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.flatnonzero(weights.any(axis=0))
    if wrap:
        return np.mod(index[:, used], size), weights[:, used]
    index = np.mod(index[:, used], 2 * size)
    return np.minimum(index, 2 * size - 1 - index), weights[:, used]


def _resample(
    image: NDArray[np.uint8] | NDArray[np.floating], axis: int, ratio: Fraction
) -> NDArray[np.uint8] | NDArray[np.floating]:
    index, weights = taps(image.shape[axis], ratio)
    source = np.moveaxis(image, axis, 0).astype(np.float64)
    shape = (-1,) + (1,) * (source.ndim - 1)
    total = np.zeros((len(index), *source.shape[1:]))
    for tap in range(index.shape[1]):
        total += weights[:, tap].reshape(shape) * source[index[:, tap]]
    if image.dtype == np.uint8:
        # MATLAB rounds halves away from zero; numpy rounds them to even.
        total = np.floor(total + 0.5).clip(0, 255)
    return np.moveaxis(total.astype(image.dtype), 0, axis)
