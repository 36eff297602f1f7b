"""AVIF, JPEG XL and HEIC: all bits are read, and the picture is turned exactly once."""

import base64
import io
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.imaging.files import avif, jxl
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import probe, read_picture
from lkdn_deploy.imaging.files.write import write_picture

RNG = np.random.default_rng(6)

# 16x8, its left half red and its right half blue, stored to be turned by a quarter, in EXIF as in the file's own
# properties; and the same with 10 bits per sample, not turned.
TURNED = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAhNtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAEZpbG9j"
    "AAAAAERAAAMAAQAAAAACNwABAAAAAAAAAFYAAgAAAAACjQABAAAAAAAAADYAAwAAAAACwwABAAAAAAAAACEAAABiaWluZgAAAAAAAwAAABVp"
    "bmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAACppbmZlAgAAAQADAABtaW1lAGFwcGxpY2F0aW9uL3JkZit4bWwAAAAA"
    "AA5waXRtAAAAAAABAAABCGlwcnAAAADnaXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAAD"
    "AAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VXTXNwENBgQAAADAZAAAAMAEIBiAAEACEQBwXMYMBiQAAAAE2NvbHJuY2x4AAEA"
    "DQAGgAAAABRpc3BlAAAAAAAAAEAAAABAAAAAKGNsYXAAAAAQAAAAAQAAAAgAAAAB////0AAAAAL////IAAAAAgAAABBwaXhpAAAAAAMICAgA"
    "AAAJaXJvdAMAAAAZaXBtYQAAAAAAAAABAAEGgQIDBYSGAAAAKGlyZWYAAAAAAAAADmNkc2MAAgABAAEAAAAOY2RzYwADAAEAAQAAALVtZGF0"
    "AAAAUigBrwTyGfHGgEJRoDvrur/7J/f9ZywYdskPvD0v/m9bH7ijhfqEjP+gYOVE+NPlO0B7GYcGHc+QvP+w0J5yAI/39PuzDDeR+8/TO8aH"
    "BS17mYAAAAAGRXhpZgAATU0AKgAAAAgAAgEPAAIAAAAFAAAAJgESAAMAAAABAAYAAAAAAABBY21lAAA8eDp4bXBtZXRhIHRpZmY6T3JpZW50"
    "YXRpb249IjYiLz4="
)
TEN_BIT = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAX5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAABogABAAAAAAAAAEsAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/mlw"
    "cnAAAADeaXBjbwAAAHdodmNDAQQIAAAAnDgAAAAAHvAA/P/6+gAADwNgAAEAF0ABDAH//wQIAAADAJw4AAADAAAeugJAYQABACpCAQEECAAA"
    "AwCcOAAAAwAAHpAEECCbLdVdNc3AQ0GBAAADABkAAAMAAQhiAAEACEQBwXMYMBiQAAAAE2NvbHJuY2x4AAEADQAGgAAAABRpc3BlAAAAAAAA"
    "AEAAAABAAAAAKGNsYXAAAAAQAAAAAQAAAAgAAAAB////0AAAAAL////IAAAAAgAAABBwaXhpAAAAAAMKCgoAAAAYaXBtYQAAAAAAAAABAAEF"
    "gQIDBYQAAABTbWRhdAAAAEcoAa8E8hoiCIBCUaA767q/+yf3/W8sGHbyz7xBP/5vWx+1dOLwXdRST2vkemDiodcLeu++vXsK/YsZToK1gKPr"
    "h+nSPoC9wA=="
)

# A grey ramp of 10 bits over 16 pixels.
TEN_BIT_GREY = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAXZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAABmgABAAAAAAAAAD4AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA9mlw"
    "cnAAAADWaXBjbwAAAHFodmNDAQQIAAAAnfgAAAAAHvAA/Pz6+gAADwNgAAEAF0ABDAH//wQIAAADAJ34AAADAAAeugJAYQABACZCAQEECAAA"
    "AwCd+AAAAwAAHsCCBBNluqumubAgAAADAyAAAAMAIWIAAQAGRAHBc8GJAAAAE2NvbHJuY2x4AAEADQAGgAAAABRpc3BlAAAAAAAAAEAAAABA"
    "AAAAKGNsYXAAAAAQAAAAAQAAAAgAAAAB////0AAAAAL////IAAAAAgAAAA5waXhpAAAAAAEKAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAA"
    "Rm1kYXQAAAA6KAGuDGQ0Awl1yF7R+u9tmi92uji8xItoFtr32zr/w1/hh///gCSdyfSPlu416jUF/ZSNcVTsqFXvYA=="
)


def smooth(channels: int, bits: int) -> Any:
    """Return (24, 32, channels) gentle gradients over the full range of so many bits."""
    y, x = np.mgrid[0:24, 0:32]
    planes = np.stack([x / 31, y / 23, (x + y) / 54, (31 - x) / 31][:channels], axis=2)
    return np.rint(planes * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def in_range(pixels: Any, bits: int) -> Any:
    """Return pixels over the full range of their type, as integers of ``bits`` would be spread over it."""
    peak = 255 if bits <= 8 else 65535
    return np.rint(pixels.astype(float) * peak / ((1 << bits) - 1))


def read(data: bytes, folder: Path) -> Picture:
    """Read a file, and assert that its header promised the same."""
    (folder / "x").write_bytes(data)
    header, picture = probe(folder / "x"), read_picture(folder / "x")
    promised = header.width, header.height, header.channels, header.depth
    assert promised == (picture.width, picture.height, picture.channels, picture.depth)
    return picture


def squeezed(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_is_read_with_all_its_bits(bits: int, channels: int, tmp_path: Path) -> None:
    pixels = smooth(channels, bits)
    data = imagecodecs.avif_encode(squeezed(pixels), level=100, bitspersample=bits)
    picture = read(data, tmp_path)
    np.testing.assert_array_equal(picture.pixels, in_range(pixels, bits))
    assert picture.notes == (() if bits == 8 else (f"widened from {bits} to 16 bits per sample",))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_jpeg_xl_is_read_with_all_its_bits(bits: int, channels: int, tmp_path: Path) -> None:
    pixels = smooth(channels, bits)
    data = imagecodecs.jpegxl_encode(squeezed(pixels), lossless=True, bitspersample=bits)
    np.testing.assert_array_equal(read(data, tmp_path).pixels, in_range(pixels, bits))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_file_is_turned_once(orientation: int, tmp_path: Path) -> None:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Acme"
    Image.fromarray(smooth(3, 8)).save(buffer, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    picture = read(buffer.getvalue(), tmp_path)
    with Image.open(buffer) as image:
        np.testing.assert_allclose(picture.pixels, np.asarray(ImageOps.exif_transpose(image)), atol=2)
    found = Image.Exif()
    found.load(picture.exif or b"")
    assert (found.get(0x0112, 1), found[0x010F]) == (1, "Acme")


def test_jpeg_xl_of_sixteen_bits_is_marked_as_srgb_and_comes_close_when_lossy(tmp_path: Path) -> None:
    pixels = smooth(3, 16)
    for quality, tolerance in ((100, 0), (95, 500)):
        write_picture(tmp_path / "x.jxl", Picture(pixels), quality=quality)
        picture = read_picture(tmp_path / "x.jxl")
        assert np.abs(picture.pixels.astype(int) - pixels).mean() <= tolerance
        assert (picture.colour, picture.notes) == ((), ())


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_comes_back(channels: int, depth: int, tmp_path: Path) -> None:
    pixels = smooth(channels, depth)
    write_picture(tmp_path / "x.jxl", Picture(pixels), quality=100)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.jxl").pixels, pixels)
    notes = write_picture(tmp_path / "x.avif", Picture(pixels), quality=100)
    picture = read_picture(tmp_path / "x.avif")
    shown = pixels if channels == picture.channels else np.concatenate([pixels[..., :1]] * 2 + [pixels], axis=2)
    np.testing.assert_allclose(picture.pixels.astype(int), shown, atol=4 if depth == 8 else 9)
    assert (picture.depth, len(notes)) == (depth, depth // 16)


def test_a_colour_space_goes_from_avif_to_png_and_back(tmp_path: Path) -> None:
    data = imagecodecs.avif_encode(smooth(3, 10), level=90, bitspersample=10, primaries=9, transfer=16)
    picture = read(data, tmp_path)
    assert picture.colour == ((b"cICP", bytes((9, 16, 0, 1))),)
    write_picture(tmp_path / "x.png", picture)
    write_picture(tmp_path / "x.avif", read_picture(tmp_path / "x.png"))
    assert read_picture(tmp_path / "x.avif").colour == picture.colour


def test_what_avif_of_twelve_bits_cannot_hold_is_told(tmp_path: Path, rgb_profile: bytes, make_exif: Any) -> None:
    picture = Picture(smooth(3, 16), icc_profile=rgb_profile, exif=make_exif(), xmp=b"<x:xmpmeta/>")
    notes = write_picture(tmp_path / "x.avif", picture)
    assert [note.split(" was")[0] for note in notes[1:]] == ["the colour profile", "the EXIF block", "the XMP packet"]
    picture = Picture(smooth(3, 8), icc_profile=rgb_profile, exif=make_exif(), xmp=b"<x:xmpmeta/>")
    assert write_picture(tmp_path / "x.avif", picture) == ()
    again = read_picture(tmp_path / "x.avif")
    assert (again.icc_profile, again.xmp) == (rgb_profile, b"<x:xmpmeta/>")


def test_metadata_of_jpeg_xl_may_be_compressed(tmp_path: Path, make_exif: Any) -> None:
    codestream = imagecodecs.jpegxl_encode(smooth(3, 8), lossless=True, usecontainer=False)
    data = b"\0\0\0\x0cJXL \r\n\x87\n"
    exif = imagecodecs.brotli_encode(bytes(4) + make_exif(1)[6:])
    for kind, contents in (
        *((b"ftyp", b"jxl \0\0\0\0jxl "), (b"jxlc", codestream), (b"brob", b"Exif" + exif)),
        (b"brob", b"xml " + imagecodecs.brotli_encode(b"<x:xmpmeta/>")),
    ):
        data += struct.pack(">I4s", 8 + len(contents), kind) + contents
    picture = read(data, tmp_path)
    assert (picture.exif, picture.xmp) == (make_exif(1), b"<x:xmpmeta/>")


@pytest.mark.parametrize("name", ["x.avif", "x.jxl"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_file_that_is_cut_off_is_an_error(name: str, part: float, tmp_path: Path) -> None:
    write_picture(tmp_path / name, Picture(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=name):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("name", ["x.avif", "x.jxl", "x.heic"])
def test_a_header_alone_does_not_take_memory(name: str, tmp_path: Path) -> None:
    if name == "x.jxl":
        side = (1 << 30) - 1
        bits = sum(value << at for value, at in ((3, 1), (side, 3), (1, 33)))
        data = b"\xff\x0a" + bits.to_bytes(5, "little") + bytes(40)
    elif name == "x.avif":
        data = imagecodecs.avif_encode(smooth(3, 8))
        data = data.replace(
            b"ispe\0\0\0\0" + struct.pack(">II", 32, 24), b"ispe\0\0\0\0" + struct.pack(">II", 60000, 60000)
        )
    else:
        pytest.importorskip("pi_heif")
        data = TEN_BIT.replace(struct.pack(">II", 64, 64), struct.pack(">II", 60000, 60000)).replace(b"clap", b"free")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        probe(tmp_path / name)


def test_a_heic_file_is_turned_once(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    picture = read(TURNED, tmp_path)
    assert picture.pixels.shape == (16, 8, 3)
    np.testing.assert_allclose(picture.pixels[2, 4].astype(int), (220, 40, 40), atol=25)
    np.testing.assert_allclose(picture.pixels[13, 4].astype(int), (40, 40, 220), atol=25)
    found = Image.Exif()
    found.load(picture.exif or b"")
    assert (found[0x0112], found[0x010F]) == (1, "Acme")
    assert picture.xmp == b'<x:xmpmeta tiff:Orientation="1"/>'


def test_ten_bits_of_a_heic_file_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    picture = read(TEN_BIT, tmp_path)
    assert picture.notes == ("widened from 10 to 16 bits per sample",)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_allclose(picture.pixels[4, 4] / 257.0, (220, 40, 40), atol=25)


def test_grey_of_ten_bits_in_a_heic_file_is_refused_by_name(tmp_path: Path) -> None:
    """A header may say so falsely, and pi-heif would write beyond the memory of its pixels."""
    pytest.importorskip("pi_heif")
    (tmp_path / "x.heic").write_bytes(TEN_BIT_GREY)
    with pytest.raises(InputError, match=r"x\.heic: the file holds grey of more than 8 bits"):
        probe(tmp_path / "x.heic")


def test_text_in_a_heic_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    (tmp_path / "x.heic").write_bytes(TURNED.replace(b"mimeappl", b"\x92imeappl").replace(b"mime\0", b"\x92ime\0"))
    with pytest.raises(InputError, match=r"x\.heic cannot be read"):
        read_picture(tmp_path / "x.heic")


@pytest.mark.parametrize("read", [probe, read_picture])
def test_without_the_extra_a_heic_file_is_called_so(read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "x.heic").write_bytes(TURNED)
    with pytest.raises(MissingError, match=r"x\.heic: the file is a HEIC file: install the extra.*\.\[heic\]"):
        read(tmp_path / "x.heic")


def test_colours_that_libjxl_gives_in_linear_light_become_srgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so for lossy files with a profile; the one here is in linear light by its header, with no profile."""
    pixels = smooth(3, 16)
    linear = np.where(pixels <= 2650, pixels / 12.92, 65535 * ((pixels / 65535 + 0.055) / 1.055) ** 2.4)
    data = imagecodecs.jpegxl_encode(np.rint(linear).astype(np.uint16), distance=0.1)
    facts = jxl._facts
    monkeypatch.setattr(jxl, "_facts", lambda codestream: replace(facts(codestream), profile=True))
    picture = read(data, tmp_path)
    assert picture.notes == ("its colours were converted to sRGB, as its colour profile cannot be read",)
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 400


def test_a_gain_map_beside_an_avif_picture_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its brand is taken to be one that this file has; libavif refuses files with the true one and no gain map."""
    data = imagecodecs.avif_encode(smooth(3, 8))
    assert read(data, tmp_path).notes == ()
    monkeypatch.setattr(avif, "_TONE_MAP", b"MA1A")
    assert read(data, tmp_path).notes == ("the file's HDR gain map was left out",)
