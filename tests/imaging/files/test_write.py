"""Writing image files: nothing is lost that the format can hold, and a file appears whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.files import jpeg, png, tiff
from lkdn_deploy.imaging.files.exif import parse_exif
from lkdn_deploy.imaging.files.formats import BY_SUFFIX
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import check_fit, check_target, write_bands, write_picture

RNG = np.random.default_rng(9)


def noise(channels: int, dtype: Any = np.uint8) -> Any:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (13, 17, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".TIF"])
def test_png_and_tiff_give_back_every_bit(suffix: str, channels: int, dtype: Any, tmp_path: Path) -> None:
    path, pixels = tmp_path / f"x{suffix}", noise(channels, dtype)
    assert write_picture(path, Picture(pixels)) == ()
    again = read_picture(path).pixels
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, pixels)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "quality", "channels"), [("x.bmp", None, 3), ("x.webp", 100, 3), ("x.webp", 100, 4)])
def test_bmp_and_webp_at_full_quality_are_lossless(
    name: str, quality: int | None, channels: int, tmp_path: Path
) -> None:
    pixels = noise(channels)
    if channels == 4:
        pixels[:5, :, 3] = 0  # its colour is kept even so
    write_picture(tmp_path / name, Picture(pixels), quality=quality)
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, pixels)


@pytest.mark.parametrize("name", ["x.jpg", "x.webp"])
def test_a_higher_quality_is_a_larger_file(name: str, tmp_path: Path) -> None:
    sizes = []
    for quality in (20, 95, None):
        write_picture(tmp_path / name, Picture(noise(3)), quality=quality)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[0] < min(sizes[1:])


def test_jpeg_keeps_full_colour_resolution(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.jpg", Picture(noise(3)))
    with Image.open(tmp_path / "x.jpg") as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.jfif", "x.webp", "x.tif"])
def test_profile_exif_and_resolution_come_back(
    name: str, dtype: Any, tmp_path: Path, rgb_profile: bytes, make_exif: Callable[[], bytes]
) -> None:
    write_picture(
        tmp_path / name, Picture(noise(3, dtype), icc_profile=rgb_profile, exif=make_exif(), dpi=(300.0, 150.0))
    )
    picture = read_picture(tmp_path / name)
    assert picture.icc_profile == rgb_profile
    assert parse_exif(picture.exif) == parse_exif(make_exif())
    if name != "x.webp":  # which has no place for it
        assert picture.dpi == pytest.approx((300, 150), rel=1e-3)


def test_a_grey_profile_goes_with_grey_pixels_only(tmp_path: Path, grey_profile: bytes) -> None:
    path = tmp_path / "x.tif"
    assert write_picture(path, Picture(noise(1), icc_profile=grey_profile)) == ()
    assert read_picture(path).icc_profile == grey_profile
    (note,) = write_picture(path, Picture(noise(3), icc_profile=grey_profile))
    assert "profile was left out" in note
    assert read_picture(path).icc_profile is None


def test_what_a_format_cannot_hold_is_told(tmp_path: Path, rgb_profile: bytes, make_exif: Callable[[], bytes]) -> None:
    notes = write_picture(
        tmp_path / "x.bmp", Picture(noise(3), icc_profile=rgb_profile, exif=make_exif(), dpi=(300.0, 150.0))
    )
    assert read_picture(tmp_path / "x.bmp").dpi == pytest.approx((300, 150), rel=1e-3)
    assert [note.split(" was left out")[0] for note in notes] == ["the colour profile", "the EXIF block"]
    (note,) = write_picture(tmp_path / "x.jpg", Picture(noise(3), exif=make_exif() + bytes(70000)))
    assert "at most 65533 bytes" in note


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_sixteen_bits_are_rounded_to_eight_where_there_are_no_more_and_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    pixels = np.full((13, 17, 3), 128 * 257 + 100, np.uint16)
    (note,) = write_picture(path, Picture(pixels))
    assert "reduced from 16 to 8 bits" in note
    np.testing.assert_array_equal(read_picture(path).pixels, 128)


def check(path: Path, quality: int | None = None, overwrite: bool = False, **picture: int) -> None:
    check_target(path, quality=quality, overwrite=overwrite)
    check_fit(path, **{"width": 17, "height": 13, "channels": 3, "depth": 8} | picture)


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_an_output_that_fits_is_let_through_and_nothing_is_made(suffix: str, tmp_path: Path) -> None:
    check(tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ("x.xyz", {}, r"suffix '\.xyz'.*\.png \.jpg \.jpeg \.jfif \.jpe \.webp \.tif \.tiff \.bmp \.avif \.jxl"),
    ("x", {}, r"x has no suffix.*\.png .*a folder with a slash"),
    ("x.jpg", {"width": 65501}, "JPEG files hold at most 65500 pixels a side.*use .png or .tif"),
    ("x.webp", {"height": 16384}, "WebP files hold at most 16383 pixels a side"),
    ("x.png", {"width": 2**31}, "PNG files hold at most 2147483647 pixels a side"),
    ("x.bmp", {"width": 40000, "height": 40000}, "BMP files hold at most 4 GiB"),
    ("x.jpg", {"channels": 4}, "lose the picture's transparency.*use .png, .webp or .tif"),
    ("x.bmp", {"channels": 2}, "lose the picture's transparency"),
    ("x.png", {"quality": 90}, "PNG files are lossless and have no quality, but 90 was asked for"),
    ("x.tif", {"quality": 90}, "TIFF files are lossless"),
    ("x.jpg", {"quality": 0}, "expected a quality from 1 to 100, got 0"),
    ("x.webp", {"quality": 101}, "expected a quality from 1 to 100, got 101"),
    ("there.png", {}, "exists.*--overwrite"),
    ("folder.png", {"overwrite": True}, "is a folder; expected the name of a file"),
    ("none/x.png", {}, "there is no folder"),
    ("there.png/x.png", {}, "there is no folder"),
]


@pytest.mark.parametrize(("name", "changes", "match"), REFUSED)
def test_what_cannot_be_carried_out_is_refused_before_any_work(
    name: str, changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    (tmp_path / "there.png").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match=match):
        check(tmp_path / name, **changes)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".png", ".tif", ".jpg", ".webp", ".bmp"]), deep=st.booleans(), data=st.data())
def test_a_file_does_not_depend_on_the_bands_in_which_its_rows_come(
    suffix: str, deep: bool, data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripes of a few rows meet bands of any heights, from none to all rows."""
    monkeypatch.setattr(png, "_STRIPE", 300)
    monkeypatch.setattr(tiff, "_STRIP", 300)
    monkeypatch.setattr(jpeg, "_STRIPE", 17 * 3 * 8)
    picture = Picture(noise(3, np.uint16 if deep else np.uint8), dpi=(300.0, 300.0))
    cuts = sorted(data.draw(st.lists(st.integers(0, picture.height), max_size=6)))
    bands = np.split(picture.pixels, cuts)
    write_picture(tmp_path / f"whole{suffix}", picture)
    write_bands(tmp_path / f"parts{suffix}", picture.description, iter(bands), threads=data.draw(st.integers(1, 3)))
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"parts{suffix}").read_bytes()


@pytest.mark.parametrize("rows", [12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp"])
def test_rows_that_are_too_few_or_too_many_leave_no_file(suffix: str, rows: int, tmp_path: Path) -> None:
    facts = Picture(noise(3)).description
    with pytest.raises(InputError, match="are not those of a picture of 17×13 with 3 channels"):
        write_bands(tmp_path / f"x{suffix}", facts, [np.zeros((5, 17, 3), np.uint8), noise(3)[: rows - 5]])
    assert list(tmp_path.iterdir()) == []


def test_samples_beyond_four_gigabytes_make_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_exif: Callable[[], bytes]
) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC", 13 * 17 * 3 - 1)
    monkeypatch.setattr(tiff, "_STRIP", 200)
    pixels, exif = noise(3), make_exif()
    write_picture(tmp_path / "x.tif", Picture(pixels, exif=exif, dpi=(300.0, 150.0)))
    assert (tmp_path / "x.tif").read_bytes().startswith(b"II+\0")
    picture = read_picture(tmp_path / "x.tif")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert parse_exif(picture.exif) == parse_exif(exif)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tif"), pixels)
    check(tmp_path / "y.tif", width=60000, height=40000)


def test_an_output_may_be_overwritten_when_allowed(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    check_target(tmp_path / "x.png", overwrite=True)
    write_picture(tmp_path / "x.png", Picture(noise(3)))
    assert read_picture(tmp_path / "x.png").channels == 3


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder where not even root can write")
def test_a_place_where_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(InputError, match=r"/proc/x\.png cannot be written"):
        check_target("/proc/x.png")


def test_the_limits_are_those_of_the_libraries(tmp_path: Path) -> None:
    for name, side in (("x.jpg", 65500), ("x.webp", 16383)):
        path = tmp_path / name
        write_picture(path, Picture(np.zeros((1, side, 3), np.uint8)))
        assert read_picture(path).width == side
        with pytest.raises(OSError if name == "x.jpg" else ValueError):
            Image.new("RGB", (side + 1, 1)).save(path)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond a few bytes, pytest's own output included."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "x.bmp"])
def test_a_write_that_fails_half_way_leaves_no_file(name: str, dtype: Any, tmp_path: Path) -> None:
    picture = Picture(noise(3, dtype))
    with pytest.raises(InputError, match=f"{name} cannot be written"), full_disk():
        write_picture(tmp_path / name, picture)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4, 3))])
def test_a_picture_of_other_pixels_cannot_be_made(pixels: Any) -> None:
    with pytest.raises(UsageError, match=r"expected pixels \(H, W, 1 to 4\) of uint8 or uint16"):
        Picture(pixels)
