"""Graphics as a test set: the measure itself, and what the bundled models make of letters, pixels and flat colours."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lkdn_deploy.bench.quality import graphics
from lkdn_deploy.bench.quality.graphics import FLAT, checkerboard, flat, largest_error, mean_error, measure_graphics
from lkdn_deploy.imaging.resample import imresize


def repeated(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return low.repeat(3, axis=0).repeat(3, axis=1)


def test_repeated_pixels_have_no_error() -> None:
    assert set(measure_graphics(repeated).values()) == {0.0}


def test_errors_are_levels_of_the_averaged_result() -> None:
    low = flat(4, (100, 100, 100))
    high = repeated(low)
    high[:3, :3] += 16  # one of sixteen blocks
    assert mean_error(low, high) == pytest.approx(1.0)
    high = repeated(flat(4))
    high[0, 0, 1] -= 7
    assert largest_error(high, FLAT) == 7


def test_detail_within_a_block_is_no_error() -> None:
    low = flat(5, (100, 100, 100))
    high = repeated(low)
    high[::3] -= 30
    high[1::3] += 30
    assert mean_error(low, high) == 0


def test_blur_is_an_error_wherever_there_is_detail() -> None:
    found = measure_graphics(lambda low: imresize(low, 3))
    assert min(error for name, error in found.items() if not name.startswith("flat")) > 1
    assert max(error for name, error in found.items() if name.startswith("flat")) == 0


def test_the_pictures_are_what_their_names_say() -> None:
    pictures = graphics.test_pictures()
    text = pictures["1-bit text and a thin line"]
    assert set(np.unique(text)) == {0, 255}
    assert 0.02 < (text == 0).mean() < 0.2
    assert len(np.unique(pictures["small antialiased text"])) > 16
    assert len(np.unique(pictures["pixel art, 2x2 blocks"].reshape(-1, 3), axis=0)) == 4
    assert np.array_equal(checkerboard(4, (0, 0, 0), (255, 255, 255))[..., 0] // 255, np.indices((4, 4)).sum(0) % 2)
    green = pictures["every second row green"]
    assert (green[1::2] == (0, 255, 0)).all()
    assert not green[::2].any()
