"""Pillow's images to pictures and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.pillow import from_pil, to_pil

RNG = np.random.default_rng(10)
RGBA = Image.fromarray(RNG.integers(0, 256, (9, 11, 4)).astype(np.uint8))


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("RGB", "RGB"),
        ("RGBX", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBa", "RGBA"),
        ("La", "LA"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
    ],
)
def test_every_mode_there_and_back_is_its_plain_conversion(mode: str, back: str) -> None:
    steps = {"La": "LA", "RGBa": "RGBA"}.get(mode, "RGBA" if mode in ("LA", "PA", "RGBA") else "RGB")
    image = RGBA.convert(steps).convert(mode)
    picture = from_pil(image)
    again = to_pil(picture)
    assert again.mode == back
    np.testing.assert_array_equal(np.array(again), np.array(image.convert(back)))
    assert bool(picture.notes) == (mode in ("CMYK", "YCbCr", "HSV"))


def test_sixteen_bit_grey_goes_there_and_back_bit_for_bit() -> None:
    grey = RNG.integers(0, 65536, (9, 11)).astype(np.uint16)
    again = to_pil(from_pil(Image.fromarray(grey)))
    assert again.mode == "I;16"
    np.testing.assert_array_equal(np.array(again), grey)


def test_other_sixteen_bit_pictures_are_rounded_to_eight_for_pillow() -> None:
    pixels = RNG.integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    np.testing.assert_array_equal(np.array(to_pil(Picture(pixels))), np.rint(pixels / 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_floats_and_32_bit_integers_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"expected 8 or 16 bits per sample, the image's mode is {mode}"):
        from_pil(Image.new(mode, (4, 4)))


def test_profile_exif_and_resolution_go_along(rgb_profile: bytes, make_exif: Callable[..., bytes]) -> None:
    image = RGBA.copy()
    image.info |= {"icc_profile": rgb_profile, "exif": make_exif(6), "dpi": (300, 150)}
    again = to_pil(from_pil(image))
    assert again.size == (9, 11)
    expected = {"icc_profile": rgb_profile, "exif": make_exif(1), "dpi": (300.0, 150.0)}
    assert again.info == expected


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 300), "high", None, (1e9, 1e9)])
def test_a_resolution_without_sense_is_left_out(dpi: Any) -> None:
    image = RGBA.copy()
    image.info["dpi"] = dpi
    assert from_pil(image).dpi is None


def test_a_profile_for_another_colour_space_is_left_out_and_told(grey_profile: bytes) -> None:
    image = RGBA.copy()
    image.info["icc_profile"] = grey_profile
    picture = from_pil(image)
    assert picture.icc_profile is None
    assert "profile is for another colour space" in picture.notes[0]


def test_maker_notes_and_all_else_in_exif_stay_byte_for_byte(make_exif: Callable[..., bytes]) -> None:
    image = RGBA.copy()
    trailer = b"notes that point at absolute places"
    image.info["exif"] = make_exif(8) + trailer
    assert from_pil(image).exif == make_exif(1) + trailer
