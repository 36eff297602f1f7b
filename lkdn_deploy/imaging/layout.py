"""Between an image's pixels, (H, W, C) integers or floats in 0..1, and a network's (1, 3, H, W) float32 in 0..1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import UsageError

Pixels = NDArray[Any]  # uint8, uint16, or float32, which the type system cannot say together

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, full range: what Pillow makes grey with


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


def to_batch(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 1 or 3) -> (1, 3, H, W) in 0..1; grey goes to all three channels."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    planes /= np.float32(full_scale(pixels.dtype))
    return (planes if len(planes) == 3 else planes.repeat(3, axis=0))[None]


def from_batch(batch: NDArray[np.float32], channels: int, dtype: np.dtype[Any]) -> Pixels:
    """(1, 3, H, W) -> (H, W, channels), clipped to the range of ``dtype``; one channel is the luma of three."""
    image: Pixels = batch[0].transpose(1, 2, 0)
    if channels == 1:
        image = (image @ _LUMA)[:, :, None]
    image = np.clip(image, 0, 1)
    if np.issubdtype(dtype, np.integer):
        image = np.rint(image * np.float32(full_scale(dtype)))
    return image.astype(dtype, copy=False)
