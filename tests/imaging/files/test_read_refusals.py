"""Files that are refused, by the header where possible, with a message that names the file and the reason."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.imaging.files.directory import Field, Tags, integers, lay_out
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import probe, read_picture
from lkdn_deploy.imaging.files.write import write_picture

RNG = np.random.default_rng(8)
PIXELS = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
FRAMES = [Image.fromarray(RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)) for _ in range(2)]

both = pytest.mark.parametrize("read", [probe, read_picture])


NO_IMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: None, r"x\.png does not exist"),
    (Path.mkdir, r"x\.png is a folder; expected an image file"),
    (Path.touch, r"x\.png is empty"),
    (lambda path: path.write_bytes(b"Dear Sir or Madam"), r"x\.png is not an image that can be read"),
    (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), r"x\.png is not an image"),
    (lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt "), r"x\.png is not an image"),
]


@both
@pytest.mark.parametrize(("make", "match"), NO_IMAGES)
def test_what_is_no_image_is_refused(
    read: Callable[[Path], object], make: Callable[[Path], object], match: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(InputError, match=match):
        read(tmp_path / "x.png")


@both
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("side", [14000, 60000])
def test_a_header_that_promises_too_many_pixels_is_refused(
    read: Callable[[Path], object], depth: int, side: int, tmp_path: Path, make_png: Any
) -> None:
    (tmp_path / "x.png").write_bytes(make_png(side, side, depth, 2))
    with pytest.raises(InputError, match="178,956,970"):
        read(tmp_path / "x.png")


@both
@pytest.mark.parametrize(
    ("tags", "match"),
    [
        pytest.param({256, 257}, "3,600,000,000 pixels; at most 178,956,970", id="picture"),
        pytest.param({322, 323}, "its tiles are larger than any picture", id="tiles"),
    ],
)
def test_so_is_such_a_header_of_a_tiff(
    read: Callable[[Path], object], tags: set[int], match: str, tmp_path: Path
) -> None:
    data = bytearray(imagecodecs.tiff_encode(np.zeros((4, 4, 3), np.uint16), tile=(16, 16)))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in tags:
            struct.pack_into("<HHII", data, at, tag, 4, 1, 60000)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match=match):
        read(tmp_path / "x.tif")


@both
@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.tif"])
def test_animations_and_several_pages_are_refused(read: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    FRAMES[0].save(tmp_path / name, save_all=True, append_images=FRAMES[1:])
    with pytest.raises(InputError, match="is animated or has several pages; expected a single picture"):
        read(tmp_path / name)


@both
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_floats_and_32_bit_integers_are_refused(
    read: Callable[[Path], object], dtype: Any, shape: Any, tmp_path: Path
) -> None:
    (tmp_path / "x.tif").write_bytes(imagecodecs.tiff_encode(np.zeros(shape, dtype)))
    with pytest.raises(InputError, match=r"holds 32-bit (floating-point|integer) samples"):
        read(tmp_path / "x.tif")


@both
@pytest.mark.parametrize(
    ("samples", "layout", "match"),
    [
        pytest.param(np.full((4, 4), -5, np.int8), {}, "holds 8-bit signed integer samples", id="signed bytes"),
        pytest.param(np.full((4, 4, 3), -5, np.int16), {}, "holds 16-bit signed integer samples", id="signed RGB"),
        pytest.param(np.zeros((4, 4), np.uint16), {"photometric": "palette"}, "a palette of 16 bits", id="palette"),
    ],
)
def test_other_samples_of_a_tiff_are_refused_by_name(
    read: Callable[[Path], object], samples: Any, layout: Any, match: str, tmp_path: Path
) -> None:
    data = bytearray(imagecodecs.tiff_encode(samples))
    if layout:  # which imagecodecs does not write
        at = data.index(struct.pack("<HHIH", 262, 3, 1, 1))
        data[at : at + 10] = struct.pack("<HHIH", 262, 3, 1, 3)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InputError, match=match):
        read(tmp_path / "x.tif")


def raw(*tags: tuple[int, int], head: bytes = b"II*\0\x08\0\0\0") -> bytes:
    """Return a TIFF file of 1x1 pixels with further tags, of a camera named Acme."""
    plain = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 278: 1, 279: 1}
    directory: Tags = {tag: integers(4, value) for tag, value in (plain | dict(tags)).items()}
    return head + lay_out(directory | {271: Field(2, b"Acme\0")}, len(head))


RAWS = [
    pytest.param(raw((254, 1), (330, 8)), r"camera raw file \(Acme\)", id="a preview before the picture (NEF, ARW)"),
    pytest.param(raw((50706, 0x0401)), r"camera raw file \(Acme\)", id="DNG"),
    pytest.param(raw((262, 32803)), r"camera raw file \(Acme\)", id="colour filter array (PEF)"),
    pytest.param(raw(head=b"II*\0\x10\0\0\0CR\2\0\0\0\0\0"), r"camera raw file \(Acme\)", id="CR2"),
    pytest.param(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw file", id="CR3"),
    pytest.param(b"FUJIFILMCCD-RAW 0201", "camera raw file", id="RAF"),
    pytest.param(b"IIU\0\x18\0\0\0", "camera raw file", id="RW2"),
    pytest.param(b"IIRO\x08\0\0\0", "camera raw file", id="ORF"),
]


@both
@pytest.mark.parametrize(("data", "match"), RAWS)
def test_camera_raw_files_are_refused_by_name_and_not_their_preview_read(
    read: Callable[[Path], object], data: bytes, match: str, tmp_path: Path
) -> None:
    (tmp_path / "x.raw").write_bytes(data)
    with pytest.raises(InputError, match=match + ".*develop it"):
        read(tmp_path / "x.raw")


def test_a_tiff_that_only_mentions_its_camera_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(raw())
    assert read_picture(tmp_path / "x.tif").pixels.shape == (1, 1, 1)


def test_colour_masks_that_are_not_read_are_not_called_damage(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1)).save(tmp_path / "x.bmp")
    header = struct.pack("<IiiHHIIiiII", 56, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0x0F00, 0x00F0, 0x000F, 0xF000)
    (tmp_path / "x.bmp").write_bytes(b"BM" + struct.pack("<III", 74, 0, 70) + header + masks + bytes(4))
    with pytest.raises(InputError, match=r"Unsupported BMP bitfields layout \(convert it to PNG or TIFF first"):
        read_picture(tmp_path / "x.bmp")


def test_tags_that_claim_more_than_the_file_holds_are_left_out(tmp_path: Path) -> None:
    many = b"".join(struct.pack("<HHII", tag, 1, 0xFFFFFF, 8) for tag in range(40000, 60000))
    data = raw()
    entries = struct.pack("<H", 20009) + data[10 : 10 + 9 * 12] + many
    (tmp_path / "x.tif").write_bytes(data[:8] + entries + bytes(1 << 20))
    assert probe(tmp_path / "x.tif").width == 1
    many = many.replace(struct.pack("<I", 0xFFFFFF), struct.pack("<I", 0xFFFFF))
    (tmp_path / "x.tif").write_bytes(
        data[:8] + struct.pack("<H", 20009) + data[10 : 10 + 9 * 12] + many + bytes(1 << 20)
    )
    with pytest.raises(InputError, match="without a whole directory"):
        probe(tmp_path / "x.tif")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "x.bmp"])
def test_a_file_that_is_cut_off_is_an_error_not_half_a_picture(
    name: str, dtype: Any, part: float, tmp_path: Path
) -> None:
    path = tmp_path / name
    write_picture(path, Picture(PIXELS.astype(dtype)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=name) as caught:
        read_picture(path)
    assert caught.value.hint


def test_damage_within_sixteen_bit_pixels_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    write_picture(path, Picture(PIXELS.astype(np.uint16) * 257))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.png cannot be read"):
        read_picture(path)


def test_without_the_library_for_sixteen_bits_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "x.png", Picture(PIXELS.astype(np.uint16)))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert probe(tmp_path / "x.png").depth == 16
    with pytest.raises(MissingError, match=r"needs the package imagecodecs.*pip install imagecodecs"):
        read_picture(tmp_path / "x.png")
