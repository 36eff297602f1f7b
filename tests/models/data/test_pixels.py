"""Photographs of every kind become 8-bit RGB, upright, or left out by name."""

import numpy as np
import pytest
from imagecodecs import png_encode, tiff_encode
from PIL import ExifTags, Image

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.read import read_rgb, read_size
from lkdn_deploy.imaging.resample import downsample

DEEP = np.linspace(0, 65535, 40 * 48).round().astype(np.uint16).reshape(40, 48)
ROUNDED = np.rint(DEEP / 257).astype(np.uint8)[..., None].repeat(3, axis=2)
COLOUR = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=2)


def put(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colours", [1, 3])
def test_16_bits_are_scaled_and_rounded(tmp_path, photos_of, suffix, colours):
    encode = {"png": png_encode, "tif": tiff_encode}[suffix]
    put(tmp_path / f"a.{suffix}", encode(DEEP if colours == 1 else COLOUR))
    (photo,) = photos_of(tmp_path).training
    expected = ROUNDED if colours == 1 else np.rint(COLOUR / 257).astype(np.uint8)
    assert np.array_equal(photo.high, expected)
    assert np.array_equal(photo.low, downsample(expected, 2))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P"])
def test_grey_is_repeated_and_the_colours_under_an_alpha_stay(tmp_path, write, photos_of, mode):
    rgb = write(tmp_path / "a.png", 40, 48)
    image = Image.fromarray(rgb).convert("P" if mode == "P" else "L" if mode in ("L", "LA") else "RGB")
    expected = np.asarray(image.convert("RGB"))
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(rgb[..., 0] // 200 * 255))  # none to full
    image.save(tmp_path / "a.png")
    (photo,) = photos_of(tmp_path).training
    assert np.array_equal(photo.high, expected)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright_at_the_size_of_the_header(tmp_path, photos_of, monkeypatch, suffix, orientation):
    sizes = []

    def planned(path, read=read_size):
        sizes.append(read(path))
        return sizes[-1]

    monkeypatch.setattr("lkdn_models.data.photos.read_size", planned)
    image = np.full((40, 60, 3), 255, np.uint8)
    image[:16, :16] = 0  # at its top left
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(image).save(tmp_path / f"a.{suffix}", exif=exif)
    (photo,) = photos_of(tmp_path).training
    shape = (40, 60) if orientation < 5 else (60, 40)
    assert photo.high.shape == (*shape, 3)
    assert sizes == [shape[::-1]]
    # The corner where EXIF puts the first row and column: bottom for 3, 4, 7, 8, right for 2, 3, 6, 7.
    dark = np.zeros((2, 2), bool)
    dark[int(orientation in (3, 4, 7, 8)), int(orientation in (2, 3, 6, 7))] = True
    assert np.array_equal(photo.high[4 :: shape[0] - 9, 4 :: shape[1] - 9, 0] < 128, dark)


SPOILED = {
    "floats": tiff_encode(np.zeros((40, 40), np.float32)),
    "wide": tiff_encode(np.zeros((40, 40), np.uint32)),
    "pages": tiff_encode(np.zeros((2, 40, 40), np.uint8)),
    "cut off": tiff_encode(COLOUR)[:-200],
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_would_lose_its_values_is_named_and_left_out(tmp_path, write, photos_of, spoiled):
    write(tmp_path / "good.png", 40, 40)
    put(tmp_path / "bad.tif", SPOILED[spoiled])
    with pytest.warns(UserWarning, match=r"left out: .*bad\.tif"):
        photos = photos_of(tmp_path).training
    assert [photo.name for photo in photos] == ["good.png"]
    with pytest.raises(InputError, match=r"bad\.tif"):
        read_rgb(tmp_path / "bad.tif")
