"""PSNR and SSIM of RGB images, on luma as in the super-resolution papers, or on RGB as in the NTIRE challenges.

Luma is ITU-R BT.601 in studio range, ``16 + 65.481 R + 128.553 G + 24.966 B`` with RGB in 0..1, not rounded. Images
are 8-bit: round a network's output before measuring. ``border`` pixels on each side are left out (papers: as many as
the scale; NTIRE: 4). The range of values is taken as 255 throughout, though luma spans less.

SSIM follows Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (2004). With means m, variances v and the covariance c of x and y under a Gaussian window,

    (2 m_x m_y + C1) (2 c + C2) / ((m_x^2 + m_y^2 + C1) (v_x + v_y + C2)),

averaged over all places where the window lies inside the image.
"""

import numpy as np
from numpy.typing import NDArray

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0
_PEAK = 255.0

SSIM_WINDOW = 11
"""Side of SSIM's window in pixels; smaller images cannot be measured."""
_SSIM_SIGMA = 1.5
_SSIM_C1 = (0.01 * _PEAK) ** 2
_SSIM_C2 = (0.03 * _PEAK) ** 2


def luma(image: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (H, W, 3) RGB in 0..255 to (H, W) luma in 16..235."""
    return 16.0 + image.astype(np.float64) @ _LUMA


def psnr_y(image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Return the PSNR, in dB, of the luma of two (H, W, 3) RGB images; infinite if they are equal.

    Args:
        image, reference: (H, W, 3) of uint8, RGB.
        border: pixels that are cut off on each side first.

    Raises:
        ValueError: if the shapes differ or the border leaves nothing.
    """
    return psnr(*(luma(inner) for inner in _inner(image, reference, border)))


def ssim_y(image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Return the mean SSIM, at most 1, of the luma of two (H, W, 3) RGB images.

    Args:
        image, reference: (H, W, 3) of uint8, RGB.
        border: pixels that are cut off on each side first.

    Raises:
        ValueError: if the shapes differ, or the border leaves less than ``SSIM_WINDOW`` a side.
    """
    return ssim(*(luma(inner) for inner in _inner(image, reference, border)))


def psnr_rgb(image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Return the PSNR, in dB, of two (H, W, 3) RGB images over all channels; infinite if they are equal.

    Args:
        image, reference: (H, W, 3) of uint8, RGB.
        border: pixels that are cut off on each side first.

    Raises:
        ValueError: if the shapes differ or the border leaves nothing.
    """
    return psnr(*(inner.astype(np.float64) for inner in _inner(image, reference, border)))


def ssim_rgb(image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int) -> float:
    """Return the mean SSIM, at most 1, of the three channels of two (H, W, 3) RGB images.

    Args:
        image, reference: (H, W, 3) of uint8, RGB.
        border: pixels that are cut off on each side first.

    Raises:
        ValueError: if the shapes differ, or the border leaves less than ``SSIM_WINDOW`` a side.
    """
    first, second = (inner.astype(np.float64) for inner in _inner(image, reference, border))
    return float(np.mean([ssim(first[..., channel], second[..., channel]) for channel in range(3)]))


def _inner(
    image: NDArray[np.uint8], reference: NDArray[np.uint8], border: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Crop the border of both images."""
    if image.shape != reference.shape:
        msg = f"expected two images of one size, got {image.shape} and {reference.shape}"
        raise ValueError(msg)
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        msg = f"a border of {border} leaves nothing of {height}x{width}"
        raise ValueError(msg)
    rows, columns = slice(border, height - border), slice(border, width - border)
    return image[rows, columns], reference[rows, columns]


def psnr(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the PSNR, in dB, of two arrays of the same shape in 0..255."""
    error = float(np.mean((x - y) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(_PEAK**2 / error))


def ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the mean SSIM of two (H, W) arrays in 0..255.

    Raises:
        ValueError: if they are smaller than ``SSIM_WINDOW`` a side.
    """
    if min(x.shape) < SSIM_WINDOW:
        height, width = x.shape
        msg = f"SSIM needs {SSIM_WINDOW}x{SSIM_WINDOW} pixels inside the border, got {height}x{width}"
        raise ValueError(msg)
    mean_x, mean_y = _blur(x), _blur(y)
    product = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    covariance = _blur(x * y) - product
    # Only the sum of the variances is needed, so one blur serves both.
    variances = _blur(x**2 + y**2) - squares
    light = (2 * product + _SSIM_C1) / (squares + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (variances + _SSIM_C2)
    return float(np.mean(light * structure))


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter an (H, W) array by SSIM's Gaussian where it lies inside: (H - 10, W - 10)."""
    half = SSIM_WINDOW // 2
    weights = np.exp(-((np.arange(SSIM_WINDOW) - half) ** 2) / (2 * _SSIM_SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        size = image.shape[axis] - 2 * half
        shifted = [image[(slice(None),) * axis + (slice(tap, tap + size),)] for tap in range(SSIM_WINDOW)]
        total = weights[half] * shifted[half]
        for tap in range(half):  # taps at one distance from the centre share a weight
            total += weights[tap] * (shifted[tap] + shifted[-1 - tap])
        image = total
    return image
