"""Pictures of what a network does, beside bicubic and the original."""

import numpy as np
import pytest

from lkdn_deploy.imaging.resample import imresize
from lkdn_models.training.samples import SEPARATOR, SIDE, comparison, most_detailed


def pictures(height, width, scale=2):
    """Low, upscaled and original, each random."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (height, width, 3), np.uint8)
    return low, *(rng.integers(0, 256, (scale * height, scale * width, 3), np.uint8) for _ in range(2))


def columns(sheet):
    """The three pictures of a comparison."""
    width = (sheet.shape[1] - 2 * SEPARATOR) // 3
    return [sheet[:, at * (width + SEPARATOR) :][:, :width] for at in range(3)]


@pytest.mark.parametrize(("height", "width"), [(5, 6), (150, 160)])
def test_bicubic_network_and_original_stand_side_by_side_at_the_most_detailed_region(height, width):
    low, upscaled, high = pictures(height, width)
    sheet = comparison(low, upscaled, high)
    across = min(SIDE, 2 * width)
    assert sheet.shape == (min(SIDE, 2 * height), 3 * across + 2 * SEPARATOR, 3)
    assert sheet.dtype == np.uint8
    region = most_detailed(high, SIDE)
    for shown, picture in zip(columns(sheet), (imresize(low, 2), upscaled, high), strict=True):
        assert np.array_equal(shown, picture[region])
    assert (sheet[:, across : across + SEPARATOR] == 255).all()


def test_sizes_that_do_not_fit_are_refused():
    low, upscaled, high = pictures(5, 6)
    for wrong in ((low, upscaled[:-1], high), (low[:4], upscaled, high), (low, upscaled[:-1], high[:-1])):
        with pytest.raises(ValueError, match="two resolutions"):
            comparison(*wrong)


def test_the_most_detailed_region_is_where_the_edges_are():
    image = np.full((60, 80, 3), 90, np.uint8)
    image[30:40:2, 50:60:2] = 255
    rows, across = most_detailed(image, 16)
    assert (rows.stop - rows.start, across.stop - across.start) == (16, 16)
    assert rows.start <= 30
    assert rows.stop >= 39
    assert across.start <= 50
    assert across.stop >= 59


def test_a_region_is_no_larger_than_the_image():
    assert most_detailed(np.zeros((20, 10, 3), np.uint8), 16) == (slice(0, 16), slice(0, 10))
