"""JPEG files written in stripes decode to what one encoder makes of the whole picture."""

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lkdn_deploy.imaging.files.jpeg as module
from lkdn_deploy.imaging.files.jpeg import write_jpeg
from lkdn_deploy.imaging.files.picture import Picture

Pixels = np.ndarray[Any, Any]


def written(pixels: Pixels, threads: int = 2, quality: int = 95, **options: Any) -> bytes:
    file = io.BytesIO()
    write_jpeg(file, Picture(pixels, **options).description, (pixels,), quality, threads)
    return file.getvalue()


def whole(pixels: Pixels, quality: int = 95, **options: Any) -> bytes:
    """Encode with Pillow, in one piece."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "JPEG", quality=quality, subsampling="4:4:4", **options)
    return file.getvalue()


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def slope(height: int, width: int, channels: int) -> Pixels:
    """Make a slope with some noise."""
    values = np.add.outer(np.linspace(0, 100, height), np.linspace(0, 100, width))[..., None]
    return (values + np.random.default_rng(0).integers(0, 50, (height, width, channels))).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 60, 95, 100])
@pytest.mark.parametrize("shape", [(1000, 900, 3), (1501, 777, 1), (8, 30_000, 3), (33, 65_500, 1), (20_000, 9, 3)])
def test_stripes_make_the_picture_that_one_encoder_makes(shape: tuple[int, int, int], quality: int) -> None:
    pixels = slope(*shape)
    data, theirs = written(pixels, quality=quality), whole(pixels, quality)
    assert np.array_equal(decoded(data), decoded(theirs))
    assert np.array_equal(imagecodecs.jpeg8_decode(data), imagecodecs.jpeg8_decode(theirs))
    assert len(data) < 1.01 * len(theirs)


@given(st.integers(1, 90), st.integers(1, 60), st.sampled_from([1, 3]), st.integers(1, 3))
def test_stripes_of_any_number(height: int, width: int, channels: int, threads: int) -> None:
    pixels = slope(height, width, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRIPE", 1)  # so that each is of eight rows
        data = written(pixels, threads)
    assert np.array_equal(decoded(data), decoded(whole(pixels)))


def test_the_bytes_are_the_same_by_any_number_of_threads() -> None:
    pixels = slope(2000, 700, 3)
    assert written(pixels, 1) == written(pixels, 2) == written(pixels, 3)


def test_what_is_small_is_what_one_encoder_makes() -> None:
    pixels, facts = slope(40, 50, 3), {"dpi": (72, 72), "exif": b"Exif\0\0some", "icc_profile": bytes(70_000)}
    assert written(pixels, **facts) == whole(pixels, **facts)


def test_parts_of_arrays_are_written_as_they_look() -> None:
    pixels = slope(700, 901, 4)[::2, ::-1, :3]
    assert np.array_equal(decoded(written(pixels)), decoded(whole(np.ascontiguousarray(pixels))))
