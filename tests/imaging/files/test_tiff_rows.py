"""TIFF files read in parts give the picture that they give as a whole, and damaged ones end in an error."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lkdn_deploy.imaging.files.picture as picture_module
import lkdn_deploy.imaging.files.tiff as tiff_module
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files import tiff_rows
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import memory_in_parts, open_rows, probe, read_picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.samples import sample_pixels

HEIGHT, WIDTH = 70, 50
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": HEIGHT},
    "tiles": {"tile": (32, 16)},
    "deflate": {"compression": "zlib", "rowsperstrip": 9},
    "predictor": {"compression": "zlib", "predictor": 2, "rowsperstrip": 9},
    "LZW": {"compression": "lzw", "predictor": 2, "tile": (16, 48)},
    "PackBits": {"compression": "packbits", "rowsperstrip": 16},
    "Zstandard": {"compression": "zstd", "tile": (16, 16)},
    "big-endian": {"byteorder": ">", "compression": "zlib", "predictor": 2, "rowsperstrip": 5},
    "BigTIFF": {"bigtiff": True, "byteorder": ">", "tile": (16, 16)},
    "white is zero": {"photometric": "miniswhite", "rowsperstrip": 5},
}


def pixels(channels: int, dtype: Any) -> Any:
    colours = sample_pixels()[:HEIGHT, :WIDTH].astype(dtype) * (257 if dtype == np.uint16 else 1)
    return np.dstack([colours, colours[..., 1]])[..., :channels] if channels != 2 else colours[..., :2]


def parts(path: Path, bounds: list[tuple[int, int]]) -> list[Any]:
    with open_rows(path) as (_, rows):
        return [rows.read(*each).copy() for each in bounds]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_are_those_of_the_whole(
    layout: str, channels: int, dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_rows, "_UNCOMPRESSED", 1000)
    path, options = tmp_path / "x.tif", dict(LAYOUTS[layout])
    if "photometric" in options and channels > 1:
        pytest.skip("of grey only")
    if channels == 4:
        options["extrasamples"] = ["unassalpha"]
    options.setdefault("photometric", "minisblack" if channels == 1 else "rgb")
    samples = pixels(channels, dtype)
    tifffile.imwrite(path, samples[..., 0] if channels == 1 else samples, resolution=(300, 300), **options)
    whole = read_picture(path)
    with open_rows(path) as (description, rows):
        assert description.header == whole.header == probe(path)
        assert (description.dpi, description.exif, description.notes) == (whole.dpi, whole.exif, whole.notes)
        assert (rows.shape, rows.dtype) == (whole.pixels.shape, whole.pixels.dtype)
        for top, bottom in ((0, 1), (0, 33), (20, 64), (63, 70), (3, 5), (0, 70)):
            assert np.array_equal(rows.read(top, bottom), whole.pixels[top:bottom])
    if layout == "one strip":  # as a segment, it would take five times itself
        assert (memory_in_parts(path) or 0) < 5 * whole.pixels.nbytes


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranges=st.lists(st.lists(st.integers(0, HEIGHT), min_size=2, max_size=2, unique=True).map(sorted), max_size=8))
def test_rows_may_be_read_in_any_order(ranges: list[list[int]], tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    if not path.exists():
        tifffile.imwrite(path, pixels(3, np.uint8), rowsperstrip=9, compression="zlib", photometric="rgb")
    bounds = [(top, bottom) for top, bottom in ranges]
    for (top, bottom), found in zip(bounds, parts(path, bounds), strict=True):
        assert np.array_equal(found, pixels(3, np.uint8)[top:bottom])


def test_what_this_package_writes_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_module, "_STRIP", 900)
    for number, big in enumerate((1 << 40, 0)):
        monkeypatch.setattr(tiff_module, "_CLASSIC", big)
        write_picture(tmp_path / f"{number}.tif", Picture(pixels(4, np.uint16)))
        (found,) = parts(tmp_path / f"{number}.tif", [(0, HEIGHT)])
        assert np.array_equal(found, pixels(4, np.uint16))


@pytest.mark.parametrize("samples", [1, 3])
def test_tiles_of_jpeg_are_decoded(samples: int, tmp_path: Path) -> None:
    image = pixels(samples, np.uint8)
    photometric = "minisblack" if samples == 1 else "rgb"  # which is written as YCbCr
    options: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 98}, "photometric": photometric}
    tifffile.imwrite(tmp_path / "x.tif", image[..., 0] if samples == 1 else image, tile=(32, 32), **options)
    (found,) = parts(tmp_path / "x.tif", [(0, HEIGHT)])
    assert np.abs(found.astype(int) - image).mean() < 3
    assert np.array_equal(parts(tmp_path / "x.tif", [(40, 60)])[0], found[40:60])


def test_pictures_beyond_the_limit_are_read_in_parts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (picture_module, tiff_module):
        monkeypatch.setattr(module, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    tifffile.imwrite(tmp_path / "x.tif", pixels(3, np.uint8), rowsperstrip=9, photometric="rgb")
    assert probe(tmp_path / "x.tif").width == WIDTH
    assert np.array_equal(parts(tmp_path / "x.tif", [(0, HEIGHT)])[0], pixels(3, np.uint8))
    with pytest.raises(InputError, match=r"at most 3,499 are read at once.*TIFF file of many strips"):
        read_picture(tmp_path / "x.tif")
    planes = np.moveaxis(pixels(3, np.uint8), 2, 0)
    tifffile.imwrite(tmp_path / "y.tif", planes, planarconfig="separate", photometric="rgb")
    with pytest.raises(InputError, match="at most 3,499 are read at once"):
        probe(tmp_path / "y.tif")


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_other_files_are_not_read_in_parts(name: str, tmp_path: Path) -> None:
    write_picture(tmp_path / name, Picture(pixels(3, np.uint8)))
    data = bytearray((tmp_path / name).read_bytes())
    if name == "x.tif":
        at = data.index(struct.pack("<HHI", 274, 3, 1))
        data[at + 8] = 6  # turned by a quarter
        (tmp_path / name).write_bytes(data)
    assert memory_in_parts(tmp_path / name) is None
    with pytest.raises(InputError, match="cannot be read in parts"), open_rows(tmp_path / name):
        pass


def patched(path: Path, tag: int, value: int) -> None:
    """Replace the value of a LONG in the directory of a little-endian file."""
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
    data[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(data)


def strip(path: Path, content: bytes) -> None:
    """Write a deflated file of one strip with this content."""
    tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 8, 262: 1, 273: 122, 277: 1, 278: HEIGHT, 279: len(content)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + content)


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", zlib.compress(bytes(WIDTH * HEIGHT - 1)), zlib.compress(bytes(1 << 24)), zlib.compress(b"")],
)
def test_strips_that_hold_something_else_are_an_error(content: bytes, tmp_path: Path) -> None:
    strip(tmp_path / "x.tif", zlib.compress(bytes(WIDTH * HEIGHT)))
    assert not parts(tmp_path / "x.tif", [(0, HEIGHT)])[0].any()
    strip(tmp_path / "x.tif", content)
    with pytest.raises(InputError, match=r"x\.tif"):
        parts(tmp_path / "x.tif", [(0, HEIGHT)])


@pytest.mark.parametrize(
    ("tag", "value"), [(257, 2**31), (256, 2**31), (278, 3), (278, 0), (279, 2**32 - 1), (273, 2**32 - 1), (273, 0)]
)
def test_claims_that_do_not_fit_together_cost_nothing(tag: int, value: int, tmp_path: Path) -> None:
    for compressed in (True, False):
        path = tmp_path / "x.tif"
        strip(path, zlib.compress(bytes(WIDTH * HEIGHT)))
        patched(path, tag, value)
        if not compressed:
            patched(path, 259, 1)
        with pytest.raises(InputError, match=r"x\.tif"):
            parts(path, [(0, 10)])
