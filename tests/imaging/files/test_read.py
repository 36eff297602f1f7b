"""Reading image files: every mode becomes 8- or 16-bit grey or RGB, upright, with its metadata."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import image_files, probe, read_picture
from lkdn_deploy.imaging.files.write import write_picture

RNG = np.random.default_rng(7)


def noise(*shape: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def read_as_probed(path: Path) -> Picture:
    """Read a file and assert that its header promised the same."""
    header, picture = probe(path), read_picture(path)
    promised = header.width, header.height, header.channels, header.depth
    assert promised == (picture.width, picture.height, picture.channels, picture.depth)
    return picture


def shown(path: Path, mode: str) -> Any:
    """Return the upright pixels that Pillow alone reads."""
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert(mode))


def palette(transparency: Any = None) -> Image.Image:
    image = Image.fromarray(noise(9, 11, 3)).quantize(16)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


SAVED = [
    pytest.param(Image.fromarray(noise(9, 11, 3)), "x.png", "RGB", id="RGB PNG"),
    pytest.param(Image.fromarray(noise(9, 11, 4)), "x.png", "RGBA", id="RGBA PNG"),
    pytest.param(Image.fromarray(noise(9, 11)), "x.png", "L", id="grey PNG"),
    pytest.param(Image.fromarray(noise(9, 11, 2)), "x.png", "LA", id="grey and alpha PNG"),
    pytest.param(Image.fromarray(noise(9, 11) > 99), "x.png", "L", id="1-bit PNG"),
    pytest.param(palette(), "x.png", "RGB", id="palette PNG"),
    pytest.param(palette(bytes(range(0, 160, 10))), "x.png", "RGBA", id="palette PNG with alpha table"),
    pytest.param(palette(3), "x.png", "RGBA", id="palette PNG with a transparent entry"),
    pytest.param(palette(), "x.gif", "RGB", id="still GIF"),
    pytest.param(palette(3), "x.gif", "RGBA", id="still GIF with a transparent entry"),
    pytest.param(Image.fromarray(noise(9, 11, 3)), "x.bmp", "RGB", id="BMP"),
    pytest.param(Image.fromarray(noise(9, 11, 3)), "x.webp", "RGB", id="WebP"),
    pytest.param(Image.fromarray(noise(9, 11, 4)), "x.webp", "RGBA", id="WebP with alpha"),
    pytest.param(Image.fromarray(noise(9, 11, 3)), "x.jpg", "RGB", id="JPEG"),
    pytest.param(Image.fromarray(noise(9, 11)), "x.jpg", "L", id="grey JPEG"),
    pytest.param(Image.fromarray(noise(9, 11, 3)), "x.tif", "RGB", id="TIFF"),
    pytest.param(Image.fromarray(noise(9, 11, 2)), "x.tif", "LA", id="grey and alpha TIFF"),
    pytest.param(Image.fromarray(noise(9, 11) > 99), "x.tif", "L", id="1-bit TIFF"),
    pytest.param(palette().convert("PA"), "x.tif", "RGBA", id="palette and alpha TIFF"),
]


@pytest.mark.parametrize(("image", "name", "mode"), SAVED)
def test_eight_bit_modes_come_as_pillow_shows_them(image: Image.Image, name: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / name
    image.save(path)
    expected = shown(path, mode)
    picture = read_as_probed(path)
    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, expected.reshape(picture.pixels.shape))
    assert picture.channels == len(Image.new(mode, (1, 1)).getbands())
    assert picture.notes == ()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_stay_sixteen_even_where_no_value_needs_them(channels: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    dark = noise(9, 11, channels, dtype=np.uint16) % 201
    write_picture(path, Picture(dark))
    picture = read_as_probed(path)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, dark)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_a_sixteen_bit_ramp_keeps_more_than_256_levels(name: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 3 * 4096).astype(np.uint16).reshape(8, -1, 3)
    write_picture(tmp_path / name, Picture(ramp))
    assert len(np.unique(read_picture(tmp_path / name).pixels)) == ramp.size


def test_sixteen_bit_grey_from_pillow_is_read(tmp_path: Path) -> None:
    grey = noise(9, 11, dtype=np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        np.testing.assert_array_equal(read_as_probed(tmp_path / name).pixels[..., 0], grey)


def test_an_interlaced_sixteen_bit_png_is_read(tmp_path: Path, make_png: Any) -> None:
    # Of two pixels in a row the first belongs to the first pass, the second to the sixth.
    (tmp_path / "x.png").write_bytes(make_png(2, 1, 16, 0, rows=b"\0\1\2\0\3\4", interlaced=True))
    np.testing.assert_array_equal(read_as_probed(tmp_path / "x.png").pixels[0, :, 0], [258, 772])


COLOURS = noise(18, 35, 3, dtype=np.uint16)
EIGHT = noise(18, 35, 3)
TIFFS = [
    pytest.param(COLOURS, {"byteorder": ">"}, COLOURS, id="big-endian"),
    pytest.param(COLOURS, {"bigtiff": True}, COLOURS, id="BigTIFF"),
    pytest.param(COLOURS, {"bigtiff": True, "byteorder": ">"}, COLOURS, id="big-endian BigTIFF"),
    pytest.param(EIGHT, {"bigtiff": True, "byteorder": ">"}, EIGHT, id="big-endian BigTIFF of 8 bits"),
    pytest.param(COLOURS, {"tile": (16, 32)}, COLOURS, id="tiled"),
    pytest.param(COLOURS, {"compression": "lzw", "predictor": True}, COLOURS, id="LZW"),
    pytest.param(
        np.moveaxis(COLOURS, 2, 0).copy(),
        {"planarconfig": "separate", "photometric": "rgb"},
        COLOURS,
        id="separate planes",
    ),
    pytest.param(COLOURS[..., 0].copy(), {"photometric": "miniswhite"}, 65535 - COLOURS[..., :1], id="white is zero"),
]


@pytest.mark.parametrize(("samples", "layout", "expected"), TIFFS)
def test_tiffs_of_any_layout_are_read(samples: Any, layout: Any, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    # A copy, since libtiff swaps the bytes of what it is given.
    path.write_bytes(imagecodecs.tiff_encode(samples.copy(), **layout))
    np.testing.assert_array_equal(read_as_probed(path).pixels, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_alpha_becomes_straight(dtype: Any, tmp_path: Path) -> None:
    path, white = tmp_path / "x.tif", np.iinfo(dtype).max
    samples = np.array([[[white // 4, 0, white // 2, white // 2], [0, 0, 0, 0]]], dtype)
    path.write_bytes(imagecodecs.tiff_encode(samples, photometric="rgb", extrasample="assocalpha"))
    picture = read_as_probed(path)
    np.testing.assert_allclose(picture.pixels[0, 0], [white // 2, 0, white, white // 2], atol=white // 127)
    assert not picture.pixels[0, 1].any()


def test_a_sixteen_bit_channel_that_is_not_alpha_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    samples = noise(9, 11, 4, dtype=np.uint16)
    path.write_bytes(imagecodecs.tiff_encode(samples, photometric="rgb", extrasample="unspecified"))
    picture = read_as_probed(path)
    np.testing.assert_array_equal(picture.pixels, samples[..., :3])
    assert picture.notes == ("1 further channel(s), which are not alpha, were left out",)


@pytest.mark.parametrize(
    ("depth", "colour_type", "key", "row", "expected"),
    [
        pytest.param(8, 0, b"\0\x07", b"\x07\x08", [[7, 0], [8, 255]], id="8-bit grey"),
        pytest.param(4, 0, b"\0\x03", b"\x34", [[51, 0], [68, 255]], id="4-bit grey"),
        pytest.param(1, 0, b"\0\x01", b"\x80", [[255, 0], [0, 255]], id="1-bit grey"),
        pytest.param(8, 2, b"\0\1\0\2\0\3", bytes((1, 2, 3, 1, 2, 4)), [[1, 2, 3, 0], [1, 2, 4, 255]], id="8-bit RGB"),
        pytest.param(16, 0, b"\1\7", b"\1\7\2\7", [[263, 0], [519, 65535]], id="16-bit grey"),
        pytest.param(
            16,
            2,
            b"\0\1\0\2\1\3",
            b"\0\1\0\2\1\3\0\1\0\2\2\3",
            [[1, 2, 259, 0], [1, 2, 515, 65535]],
            id="16-bit RGB",
        ),
    ],
)
def test_a_colour_key_becomes_alpha(
    depth: int, colour_type: int, key: bytes, row: bytes, expected: Any, tmp_path: Path, make_png: Any
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(make_png(2, 1, depth, colour_type, (b"tRNS", key), rows=b"\0" + row))
    np.testing.assert_array_equal(read_as_probed(path).pixels[0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif"])
def test_the_picture_is_upright_and_its_exif_says_so(
    name: str, orientation: int, tmp_path: Path, make_exif: Callable[[int], bytes]
) -> None:
    path = tmp_path / name
    Image.fromarray(noise(5, 7, 3)).save(path, exif=make_exif(orientation))
    picture = read_as_probed(path)
    np.testing.assert_array_equal(picture.pixels, shown(path, "RGB"))
    exif = Image.Exif()
    exif.load(picture.exif or b"")
    assert (exif[0x0112], exif[0x010F]) == (1, "Acme")
    assert exif.get_ifd(0x8769)[0x829A] == 0.5
    assert exif.get_ifd(0x8825)[1] == "N"


def test_a_sixteen_bit_png_is_upright_too_and_its_exif_may_stand_at_the_end(
    tmp_path: Path, make_png: Any, make_exif: Callable[[int], bytes]
) -> None:
    path = tmp_path / "x.png"
    data = make_png(2, 1, 16, 0, rows=b"\0\0\1\0\2")
    end = make_png(2, 1, 16, 0, (b"eXIf", make_exif(6)[6:]))
    chunk = end[33 : end.index(b"IDAT") - 4]
    path.write_bytes(data[:-12] + chunk + data[-12:])
    picture = read_as_probed(path)
    np.testing.assert_array_equal(picture.pixels[..., 0], [[1], [2]])
    assert picture.exif == make_exif(1)


def test_exif_that_cannot_be_parsed_is_told_and_the_picture_still_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(noise(5, 7, 3)).save(path, exif=b"Exif\0\0" + b"nonsense" * 3)
    picture = read_picture(path)
    assert picture.exif is None
    assert picture.notes == ("its EXIF block is damaged and was left out",)


@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])
def test_cmyk_goes_through_its_own_profile(name: str, tmp_path: Path, cmyk_profile: bytes) -> None:
    path = tmp_path / name
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, icc_profile=cmyk_profile)
    picture = read_as_probed(path)
    # Cyan ink, which that profile prints grey.
    red, green, blue = picture.pixels[8, 8].astype(int)
    assert abs(red - blue) <= 2
    assert abs(red - green) <= 2
    assert 100 < red < 200
    assert picture.notes == ("converted from CMYK to sRGB through its embedded profile",)
    assert picture.icc_profile is None


@pytest.mark.parametrize(
    ("profile", "note"),
    [(None, "without a profile"), (b"not a profile", "without its embedded profile, which cannot be used")],
)
def test_cmyk_without_a_usable_profile_is_converted_plainly_and_told(
    profile: bytes | None, note: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.tif"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, icc_profile=profile)
    picture = read_as_probed(path)
    assert tuple(picture.pixels[8, 8]) == (0, 255, 255)
    assert note in picture.notes[0]
    assert picture.icc_profile is None


@pytest.mark.parametrize(("mode", "colour"), [("YCbCr", (128, 128, 128)), ("LAB", (137, 128, 128))])
def test_other_colour_spaces_become_rgb_and_are_told(mode: str, colour: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.new(mode, (8, 8), colour).save(path)
    picture = read_as_probed(path)
    np.testing.assert_allclose(picture.pixels, 128, atol=3)
    assert picture.notes[0].startswith("converted from")


def test_of_a_file_with_several_jpegs_the_first_is_read_and_the_rest_told(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    first, second = (Image.fromarray(noise(9, 11, 3)) for _ in range(2))
    first.save(path, format="MPO", save_all=True, append_images=[second])
    picture = read_as_probed(path)
    np.testing.assert_array_equal(picture.pixels, shown(path, "RGB"))
    assert picture.notes == ("the file holds several pictures (MPO); only the first was read",)


def test_a_folder_gives_the_images_that_single_files_may_be(tmp_path: Path) -> None:
    names = ["a.jfif", "b.jpe", "c.GIF", "d.mpo", "e.avif", "f.jxl", "g.heic", "h.HEIF", "i.hif", "j.tif", "k.dib"]
    for name in (*names, "l.txt", "m.nef", "n", "o.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "more.png").mkdir()
    assert image_files(tmp_path) == [tmp_path / name for name in names]
    with pytest.raises(InputError, match=r"holds no image \(give"):
        image_files(tmp_path / "more.png")


def test_eight_bits_are_read_without_imagecodecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(9, 11, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert np.array_equal(read_picture(tmp_path / "x.png").pixels, pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_png_that_lacks_but_its_last_checksum_is_read(mode: str, tmp_path: Path) -> None:
    """Pillow reads it, too. Without a part of its pixels, the file is refused."""
    pixels = noise(40, 50, {"L": 1, "RGB": 3, "RGBA": 4}[mode])
    image, path = Image.fromarray(pixels.squeeze(), mode), tmp_path / "x.png"
    image.save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-14])
    assert np.array_equal(read_picture(path).pixels, pixels)
    path.write_bytes(data[:-200])
    with pytest.raises(InputError, match=r"x\.png: the image cannot be decoded: image file is truncated"):
        read_picture(path)
