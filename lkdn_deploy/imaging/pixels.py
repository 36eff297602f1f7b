"""Between an image's pixels, (H, W, C) integers or floats in 0..1, and a network's (1, 3, H, W) float32 in 0..1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import NonFiniteError, UsageError

Pixels = NDArray[Any]  # uint8, uint16, or float32, which the type system cannot say together

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, full range: what Pillow makes grey with
_IN_CACHE = 1 << 15  # pixels: 384 KiB of three float32 channels, where a core has a MiB of second-level cache or more


def check_pixels(image: Pixels) -> Pixels:
    """Return ``image`` if it is (H, W, C), C in 1..4, of uint8, uint16, or float32 in 0..1.

    Raises:
        UsageError: if it is not, saying what was expected.
    """
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4 or 0 in image.shape:
        msg = f"an image is an array (height, width, 1 to 4 channels), got shape {image.shape}"
        raise UsageError(msg)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        msg = f"pixels are uint8, uint16 or float32, got {image.dtype}"
        raise UsageError(msg, "convert them with astype")
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        msg = f"float pixels lie in 0..1, got {image.min()}..{image.max()}"
        raise UsageError(msg, "divide by the largest value that the format can hold")
    return image


def full_scale(dtype: np.dtype[Any]) -> float:
    """The value of white: 255, 65535 or 1."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def to_batch(pixels: Pixels, memory: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(H, W, 1 or 3) -> (1, 3, H, W) in 0..1; grey goes to all three channels.

    Args:
        pixels: of any of the types that ``check_pixels`` lets through.
        memory: an earlier batch that is not needed any more; it is used again if it has the size.
    """
    shape = (1, 3, *pixels.shape[:2])
    batch = np.empty(shape, np.float32) if memory is None or memory.shape != shape else memory
    np.divide(pixels.transpose(2, 0, 1), np.float32(full_scale(pixels.dtype)), out=batch[0], dtype=np.float32)
    return batch


def from_batch(batch: NDArray[np.float32], channels: int, dtype: np.dtype[Any]) -> Pixels:
    """(1, 3, H, W) -> (H, W, channels), clipped to the range of ``dtype``; one channel is the luma of three.

    Raises:
        NonFiniteError: if a value is none.
    """
    image: Pixels = np.empty((*batch.shape[2:], channels), dtype)
    store_batch(batch, image)
    return image


def store_batch(batch: NDArray[np.float32], target: Pixels) -> None:
    """``from_batch`` into ``target``, (H, W, 1 or 3) and any part of a larger array.

    Raises:
        NonFiniteError: if a value is none; a part of ``target`` is filled by then.
    """
    height, width, channels = target.shape
    peak = np.float32(full_scale(target.dtype))
    # So few rows that what is between the steps stays in the processor's cache: as whole arrays, clipping, scaling,
    # rounding and narrowing would each go through memory, at 48 bytes a pixel.
    rows = max(_IN_CACHE // width, 1)
    scratch = np.empty((3, min(rows, height), width), np.float32)
    for top in range(0, height, rows):
        source, place = batch[0, :, top : top + rows], target[top : top + rows]
        if not np.isfinite(source).all():
            raise NonFiniteError
        planes = scratch[:, : len(place)]
        if channels == 1:
            np.multiply(source, _LUMA[:, None, None], out=planes)
            planes = planes.sum(axis=0, keepdims=True)
            planes *= peak
        else:
            np.multiply(source, peak, out=planes)
        np.clip(planes, 0, peak, out=planes)
        if np.issubdtype(target.dtype, np.integer):
            np.rint(planes, out=planes)
        for channel, plane in enumerate(planes):  # in one go, numpy's innermost loop would be over three values
            place[:, :, channel] = plane
