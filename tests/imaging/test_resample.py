from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy.imaging.resample import downsample, imresize


def downsample_replicated(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Shrink with the edge repeated instead of mirrored, as MATLAB did when the published sets were made."""
    size = 3 * scale
    return downsample(np.pad(image, ((size, size), (size, size), (0, 0))[: image.ndim], "edge"), scale)[3:-3, 3:-3]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_published_low_resolution_images_come_out_bit_for_bit(data: Path, name: str, scale: int) -> None:
    folder = data / "testsets" / name / f"x{scale}"
    paths = sorted((folder / "HR").glob("*.png"))
    assert len(paths) == int(name.removeprefix("Set"))
    for path in paths:
        with Image.open(path) as high, Image.open(folder / "LR" / path.name) as low:
            made = downsample_replicated(np.asarray(high), scale)
            assert np.array_equal(made, np.asarray(low)), path


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edges_change_nothing_but_a_frame_of_three_pixels(scale: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 72, 3), np.uint8)
    mirrored, replicated = downsample(image, scale), downsample_replicated(image, scale)
    assert not np.array_equal(mirrored, replicated)
    assert np.array_equal(mirrored[3:-3, 3:-3], replicated[3:-3, 3:-3])


def test_a_size_that_is_no_multiple_is_cropped() -> None:
    image = np.zeros((13, 11, 3), np.uint8)
    assert downsample(image, 4).shape == (3, 2, 3)


@pytest.mark.parametrize("scale", [Fraction(1, 3), Fraction(1, 2), 1, 2, 4])
def test_a_flat_image_stays_flat(scale: Fraction | int) -> None:
    image = np.full((12, 18), 77, np.uint8)
    result = imresize(image, scale)
    assert (result == 77).all()
    assert result.shape == (12 * scale, 18 * scale)


def test_a_linear_ramp_is_reproduced_inside() -> None:
    ramp = np.linspace(0, 1, 40)[None, :].repeat(8, axis=0)
    large = imresize(ramp, 2)
    inner = np.diff(large[4, 8:-8])
    assert np.allclose(inner, inner[0])


def test_scale_one_gives_the_image_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert np.array_equal(imresize(image, 1), image)


def test_floats_are_neither_rounded_nor_clipped() -> None:
    step = np.zeros((8, 8), np.float32)
    step[:, 4:] = 1
    large = imresize(step, 4)
    assert large.dtype == np.float32
    assert large.min() < 0
    assert large.max() > 1


def test_a_scale_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        imresize(np.zeros((4, 4), np.uint8), 0)
