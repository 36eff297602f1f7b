"""Conversion between an image's pixels, (H, W, C) integers or floats in 0..1, and a network's (1, 3, H, W) batches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import NonFiniteError, UsageError

Pixels = NDArray[Any]  # uint8, uint16 or float32; the type system has no name for that

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, full range, as in Pillow's conversion to grey
_IN_CACHE = 1 << 15  # pixels: 384 KiB of three float32 channels, where a core has a MiB of second-level cache or more


def check_pixels(image: Pixels) -> Pixels:
    """Return ``image`` if it is (H, W, C), C in 1..4, of uint8, uint16, or float32 in 0..1.

    Raises:
        UsageError: if it is not.
    """
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4 or 0 in image.shape:
        msg = f"an image is an array (height, width, 1 to 4 channels), got shape {image.shape}"
        raise UsageError(msg)
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        msg = f"pixels are uint8, uint16 or float32, got {image.dtype}"
        raise UsageError(msg, "convert them with astype")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        msg = "float pixels lie in 0..1, but the image holds values that are NaN or infinite"
        raise UsageError(msg, "replace them with numpy.nan_to_num")
    if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
        msg = f"float pixels lie in 0..1, got {image.min()}..{image.max()}"
        raise UsageError(msg, "divide by the largest value that the format can hold")
    return image


def full_scale(dtype: np.dtype[Any]) -> float:
    """Return the value of white: 255, 65535 or 1."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


def to_batch(pixels: Pixels, memory: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Convert (H, W, 1 or 3) pixels to a (1, 3, H, W) batch in 0..1; grey fills all three channels.

    Args:
        pixels: of any type that ``check_pixels`` accepts.
        memory: an earlier batch that is not needed any more; it is overwritten if it has the same size.
    """
    shape = (1, 3, *pixels.shape[:2])
    batch = np.empty(shape, np.float32) if memory is None or memory.shape != shape else memory
    np.divide(pixels.transpose(2, 0, 1), np.float32(full_scale(pixels.dtype)), out=batch[0], dtype=np.float32)
    return batch


def from_batch(batch: NDArray[np.float32], channels: int, dtype: np.dtype[Any]) -> Pixels:
    """Convert a (1, 3, H, W) batch to (H, W, channels) pixels, clipped to the range of ``dtype``.

    Args:
        batch: a network's output, 0..1.
        channels: 3, or 1 for the luma of the three.
        dtype: uint8, uint16 or float32.

    Raises:
        NonFiniteError: if a value is NaN or infinite.
    """
    image: Pixels = np.empty((*batch.shape[2:], channels), dtype)
    store_batch(batch, image)
    return image


def store_batch(batch: NDArray[np.float32], target: Pixels) -> None:
    """Do as ``from_batch``, into ``target``: (H, W, 1 or 3), which may be a part of a larger array.

    Raises:
        NonFiniteError: if a value is NaN or infinite; a part of ``target`` has been written by then.
    """
    height, width, channels = target.shape
    peak = np.float32(full_scale(target.dtype))
    # Few enough rows at a time that intermediate results stay in the processor's cache: on whole arrays, clipping,
    # scaling, rounding and narrowing would each go through memory, at 48 bytes a pixel.
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
        for channel, plane in enumerate(planes):  # all at once, numpy's innermost loop would be over three values
            place[:, :, channel] = plane
