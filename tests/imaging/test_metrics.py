import numpy as np
import pytest

from lkdn_deploy.imaging.metrics import luma, psnr_y


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


def test_images_of_two_sizes_and_a_border_that_leaves_nothing_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        psnr_y(image, image[:4], 0)
    with pytest.raises(ValueError, match="leaves nothing"):
        psnr_y(image, image, 4)
