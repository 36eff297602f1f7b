"""Pictures of what a network does, beside bicubic and the original."""

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.imaging.resample import imresize
from lkdn_models.training.samples import SEPARATOR, SIDE, comparison, most_detailed, write_comparison


def pictures(height, width, scale=2):
    """Low, upscaled and original, each random."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 256, (height, width, 3), np.uint8)
    return low, *(rng.integers(0, 256, (scale * height, scale * width, 3), np.uint8) for _ in range(2))


def columns(sheet):
    """The three pictures of a comparison."""
    width = (sheet.shape[1] - 2 * SEPARATOR) // 3
    return [sheet[:, at * (width + SEPARATOR) :][:, :width] for at in range(3)]


def test_bicubic_network_and_original_stand_side_by_side():
    low, upscaled, high = pictures(5, 6)
    sheet = comparison(low, upscaled, high)
    assert sheet.shape == (10, 3 * 12 + 2 * SEPARATOR, 3)
    assert sheet.dtype == np.uint8
    for shown, picture in zip(columns(sheet), (imresize(low, 2), upscaled, high), strict=True):
        assert np.array_equal(shown, picture)
    assert (sheet[:, 12 : 12 + SEPARATOR] == 255).all()


def test_a_region_is_cut_from_the_whole_pictures():
    low, upscaled, high = pictures(9, 10)
    rows, across = slice(3, 11), slice(2, 9)
    for shown, picture in zip(
        columns(comparison(low, upscaled, high, (rows, across))), (imresize(low, 2), upscaled, high), strict=True
    ):
        assert np.array_equal(shown, picture[rows, across])


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


@pytest.mark.parametrize(("height", "width"), [(150, 160), (20, 30)])
def test_a_sample_is_written_whole_and_small(tmp_path, height, width):
    low, upscaled, high = pictures(height, width)
    write_comparison(tmp_path / "a.png", low, upscaled, high)
    (path,) = tmp_path.iterdir()
    with Image.open(path) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (min(SIDE, 2 * height), 3 * min(SIDE, 2 * width) + 2 * SEPARATOR, 3)
    assert np.array_equal(sheet, comparison(low, upscaled, high, most_detailed(high, SIDE)))
