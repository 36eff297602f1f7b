from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lkdn_deploy.imaging.metrics import luma, psnr_rgb, psnr_y, ssim, ssim_rgb, ssim_y

Image = NDArray[np.uint8]
C1, C2 = 6.5025, 58.5225  # (0.01 * 255)^2 and (0.03 * 255)^2


def random_image(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ssim_by_windows(image: Image, other: Image) -> float:
    """Compute SSIM by its definition: a two-dimensional window at each place, two passes for the variances."""
    y, x = np.mgrid[-5:6, -5:6]
    window = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    window /= window.sum()
    first, second = luma(image), luma(other)
    values = []
    for top in range(first.shape[0] - 10):
        for left in range(first.shape[1] - 10):
            a, b = (light[top : top + 11, left : left + 11] for light in (first, second))
            mean_a, mean_b = np.sum(window * a), np.sum(window * b)
            variances = np.sum(window * (a - mean_a) ** 2) + np.sum(window * (b - mean_b) ** 2)
            covariance = np.sum(window * (a - mean_a) * (b - mean_b))
            light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
            values.append(light * (2 * covariance + C2) / (variances + C2))
    return float(np.mean(values))


def test_luma_of_black_white_and_the_primaries() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert np.allclose(luma(colours), [[16, 235, 81.481, 144.553, 40.966]])


def test_a_difference_of_one_grey_level() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    # Luma spans 219 levels for 255 of RGB.
    assert psnr_y(image, image + 1, 4) == pytest.approx(20 * np.log10(255 / (219 / 255)))


def test_equal_images_and_a_border_that_hides_the_only_difference() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    other = image.copy()
    other[0] = 255
    assert psnr_y(image, other, 1) == float("inf")
    assert psnr_y(image, other, 0) < 20


@pytest.mark.parametrize("metric", [psnr_y, ssim_y, psnr_rgb, ssim_rgb])
def test_images_of_two_sizes_and_a_border_that_leaves_nothing_are_refused(
    metric: Callable[[Image, Image, int], float],
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        metric(image, image[:4], 0)
    with pytest.raises(ValueError, match="leaves nothing"):
        metric(image, image, 4)


def test_on_rgb_every_channel_counts_alike() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    for channel in range(3):
        other = image.copy()
        other[..., channel] += 3
        assert psnr_rgb(image, other, 4) == pytest.approx(10 * np.log10(255**2 / 3))
    assert psnr_rgb(image, image, 4) == float("inf")


def test_ssim_on_rgb_is_the_mean_of_the_channels() -> None:
    image, other = random_image(24, 30), random_image(24, 30, seed=1)
    other[..., 1] = image[..., 1]
    first, second = image[4:-4, 4:-4].astype(np.float64), other[4:-4, 4:-4].astype(np.float64)
    red, blue = (ssim(first[..., channel], second[..., channel]) for channel in (0, 2))
    assert ssim_rgb(image, other, 4) == pytest.approx((red + 1 + blue) / 3, abs=1e-15)


def test_of_grey_images_ssim_on_rgb_is_that_of_one_channel() -> None:
    image, other = (random_image(20, 20, seed)[..., :1].repeat(3, axis=2) for seed in (0, 1))
    expected = ssim(image[..., 0].astype(np.float64), other[..., 0].astype(np.float64))
    assert ssim_rgb(image, other, 0) == pytest.approx(expected, abs=1e-15)


def test_a_border_hides_what_lies_in_it_on_rgb_too() -> None:
    image = random_image(24, 24)
    other = image.copy()
    other[:, :4] = 255 - other[:, :4]
    assert (psnr_rgb(image, other, 4), ssim_rgb(image, other, 4)) == (float("inf"), 1)
    assert psnr_rgb(image, other, 3) < 40


def test_ssim_of_equal_images_is_one() -> None:
    assert ssim_rgb(random_image(20, 30), random_image(20, 30), 2) == 1
    assert ssim_y(random_image(20, 30), random_image(20, 30), 2) == 1


def test_ssim_of_two_flat_images_is_that_of_their_means() -> None:
    dark, light = (np.full((16, 20, 3), grey, np.uint8) for grey in (50, 200))
    a, b = (16 + 219 / 255 * grey for grey in (50, 200))
    assert ssim_y(dark, light, 0) == pytest.approx((2 * a * b + C1) / (a**2 + b**2 + C1), abs=1e-12)


def test_ssim_of_an_image_and_its_negative_is_negative() -> None:
    image = random_image(24, 24)
    assert ssim_y(image, 255 - image, 0) < -0.5


@pytest.mark.parametrize("size", [(11, 11), (13, 19), (19, 12)])
def test_ssim_is_that_of_a_window_at_each_place(size: tuple[int, int]) -> None:
    image, noise = random_image(*size), random_image(*size, seed=1)
    other = (image // 2 + noise // 2).astype(np.uint8)
    assert ssim_y(image, other, 0) == pytest.approx(ssim_by_windows(image, other), abs=1e-12)


def test_ssim_leaves_out_the_border() -> None:
    image, other = random_image(20, 22), random_image(20, 22, seed=1)
    assert ssim_y(image, other, 4) == ssim_y(image[4:-4, 4:-4], other[4:-4, 4:-4], 0)


@given(seed=st.integers(0, 2**32 - 1), contrast=st.integers(0, 255))
def test_ssim_is_symmetric_and_between_minus_one_and_one(seed: int, contrast: int) -> None:
    rng = np.random.default_rng(seed)
    image, other = (rng.integers(0, contrast + 1, (12, 14, 3), dtype=np.uint8) for _ in range(2))
    value = ssim_y(image, other, 0)
    assert ssim_y(other, image, 0) == value
    assert -1 <= value <= 1


@pytest.mark.parametrize(("height", "width", "border"), [(10, 40, 0), (40, 18, 4)])
def test_ssim_of_less_than_its_window_is_refused(height: int, width: int, border: int) -> None:
    image = random_image(height, width)
    with pytest.raises(ValueError, match="needs 11x11 pixels inside the border"):
        ssim_y(image, image, border)
