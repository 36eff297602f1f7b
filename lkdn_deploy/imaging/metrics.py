"""PSNR on luma, as the super-resolution papers measure it.

Luma is ITU-R BT.601 in studio range, ``16 + 65.481 R + 128.553 G + 24.966 B`` with RGB in 0..1, not rounded. Images
are 8-bit: round a network's output before measuring. ``border`` pixels on each side are left out (papers: the
scale).
"""

import numpy as np
from numpy.typing import NDArray

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) RGB 0..255 -> (H, W) in 16..235."""
    return 16.0 + image.astype(np.float64) @ _LUMA


def psnr_y(image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """PSNR in dB of the luma of two (H, W, 3) RGB images; infinite if it is equal.

    Raises:
        ValueError: if the shapes differ or the border leaves nothing.
    """
    if image.shape != reference.shape:
        msg = f"images of one size are compared, got {image.shape} and {reference.shape}"
        raise ValueError(msg)
    height, width = image.shape[:2]
    inner = (slice(border, height - border), slice(border, width - border))
    difference = luma(image)[inner] - luma(reference)[inner]
    if difference.size == 0:
        msg = f"a border of {border} leaves nothing of {height}x{width}"
        raise ValueError(msg)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
