"""PNG files that are written: other programs read back every bit, and the files are no larger than theirs."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

import lkdn_deploy.imaging.files.png as module
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.compression import DeflateError
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.png import write_png
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.samples import sample_pixels

Pixels = np.ndarray[Any, Any]


def written(pixels: Pixels, threads: int = 2) -> bytes:
    file = io.BytesIO()
    write_png(file, Picture(pixels).description, (pixels,), 95, threads)
    return file.getvalue()


def check(data: bytes, pixels: Pixels) -> None:
    """Assert that libpng gives back the pixels, and Pillow as far as it can hold them."""
    again = imagecodecs.png_decode(data).reshape(pixels.shape)
    assert again.dtype == pixels.dtype
    assert np.array_equal(again, pixels)
    if pixels.dtype == np.uint8 or pixels.shape[2] == 1:
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of each chunk, after checking its checksum."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(body),)
        found.append((body[:4], body[4:]))
        at += 12 + length
    return found


def rows(data: bytes) -> bytes:
    """Inflate the samples; assert that the stream is whole and nothing follows it."""
    stream = zlib.decompressobj()
    inflated = stream.decompress(b"".join(body for kind, body in chunks(data) if kind == b"IDAT"))
    assert stream.eof
    assert not stream.unused_data
    return inflated


SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)), st.integers(1, 3))
def test_small_pictures_of_all_kinds(pixels: Pixels, threads: int) -> None:
    check(written(pixels, threads), pixels)


@given(SHAPES, st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_any_neighbours(shape: tuple[int, int, int], dtype: Any, seed: int, levels: int) -> None:
    """With few levels, neighbours are often equal, and often at the ends of the range."""
    values = np.linspace(0, np.iinfo(dtype).max, levels).astype(dtype)
    pixels = np.random.default_rng(seed).choice(values, shape)
    check(written(pixels), pixels)


def smooth(shape: tuple[int, int, int], dtype: Any) -> Pixels:
    """Make a slope with some noise."""
    height, width, _ = shape
    slope = np.linspace(0, 0.9, height)[:, None, None] * np.linspace(0.2, 1, width)[:, None]
    noise = np.random.default_rng(0).random(shape) * 0.05
    return ((slope + noise) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(900, 700, 3), (1, 400_000, 4), (300_000, 1, 4), (1500, 1001, 1), (2, 300_000, 2)])
def test_more_rows_than_a_stripe_and_rows_longer_than_one_by_any_number_of_threads(
    shape: tuple[int, int, int], dtype: Any
) -> None:
    pixels = smooth(shape, dtype)
    data = written(pixels, 1)
    check(data, pixels)
    assert all(written(pixels, threads) == data for threads in (2, 3))


def test_parts_of_arrays_are_written_as_they_look() -> None:
    pixels = smooth((700, 900, 4), np.uint8)
    for part in (pixels[::2, ::-1, :3], pixels[:, 5:-5], pixels.transpose(1, 0, 2)):
        check(written(part), part)


@pytest.mark.parametrize("shape", [(4000, 1100, 3), (1, 1, 1), (5, 3, 2)])
def test_the_stream_is_whole_and_its_checksums_are_right(shape: tuple[int, int, int]) -> None:
    pixels = smooth(shape, np.uint8)
    data = written(pixels)
    assert chunks(data)[0][1] == struct.pack(">IIBBBBB", shape[1], shape[0], 8, (0, 4, 2, 6)[shape[2] - 1], 0, 0, 0)
    assert chunks(data)[-1] == (b"IEND", b"")
    assert len(rows(data)) == shape[0] * (1 + shape[1] * shape[2])


def test_what_is_too_long_for_a_chunk_goes_into_several(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = smooth((300, 300, 3), np.uint8)
    whole = written(pixels)
    monkeypatch.setattr(module, "_MAX_CHUNK", 1000)
    data = written(pixels)
    assert max(len(body) for _, body in chunks(data)) == 1000
    assert rows(data) == rows(whole)
    check(data, pixels)


def drawing() -> Image.Image:
    """Draw text and shapes in four colours, without smooth edges."""
    image = Image.new("RGB", (800, 900), "white")
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1"
    for top in range(0, 600, 14):
        draw.text(
            (5, top), f"line {top} of a text that goes on and on " * 4, fill=(0, 0, 0) if top % 28 else (20, 40, 160)
        )
    draw.ellipse((200, 620, 500, 880), fill=(230, 120, 30))
    return image


def photograph(times: int) -> Image.Image:
    image = Image.fromarray(sample_pixels())
    return image.resize((times * image.width, times * image.height), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("image", [drawing(), photograph(3), photograph(9)], ids=["drawing", "photograph", "large"])
def test_files_are_about_as_large_as_those_of_libraries_that_choose_a_filter_for_each_row(
    image: Image.Image,
) -> None:
    theirs = io.BytesIO()
    image.save(theirs, "PNG", compress_type=zlib.Z_RLE)
    assert len(written(np.asarray(image))) < 1.02 * len(theirs.getvalue())


def test_sides_beyond_what_libpng_takes_are_written(tmp_path: Path) -> None:
    pixels = np.arange(1_000_001, dtype=np.uint32).astype(np.uint16).reshape(1, -1, 1)
    write_picture(tmp_path / "x.png", Picture(pixels))
    with Image.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.asarray(image), pixels[..., 0])


@pytest.mark.parametrize("error", [DeflateError("no"), MemoryError(), RuntimeError("out of ink")])
def test_a_stripe_that_cannot_be_deflated_is_an_error_and_leaves_the_old_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = smooth((5500, 700, 3), np.uint8)
    write_picture(tmp_path / "x.png", Picture(pixels))
    working, calls = module.deflate_blocks, []

    def fail_later(samples: Pixels) -> bytes:
        calls.append(samples)
        if len(calls) > 4:
            raise error
        return working(samples)

    monkeypatch.setattr(module, "deflate_blocks", fail_later)
    with pytest.raises(InputError, match=rf"x\.png cannot be written: {str(error) or 'MemoryError'}"):
        write_picture(tmp_path / "x.png", Picture(pixels[::-1]))
    assert np.array_equal(read_picture(tmp_path / "x.png").pixels, pixels)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.png"]
