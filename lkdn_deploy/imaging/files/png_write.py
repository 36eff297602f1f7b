"""Pictures to PNG files, in stripes of rows that several threads filter and deflate, each for itself."""

import struct
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import IO

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.files.deflate import deflate_blocks
from lkdn_deploy.imaging.files.metadata import EXIF_PREFIX
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.png import PNG_SIGNATURE
from lkdn_deploy.imaging.layout import Pixels

Bytes = NDArray[np.uint8]

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_NONE, _BEFORE, _ABOVE, _PAETH = 0, 1, 2, 4  # what is taken from a sample; the last is the nearest of three
_FILTERS = np.array([_NONE, _BEFORE, _ABOVE, _PAETH], np.uint8)
_INCH = 0.0254
_ADLER_BASE = 65521
_LONGEST = 2**31 - 1  # bytes of a chunk

# One byte of a row in so many decides on its filter. A prime, so that all of a pixel's get their turn.
_SAMPLED = 17

# Bytes of samples: of a stripe so many that its own codes, and its beginning without anything to look back to, are
# worth 0.1 % of the file; of what is filtered at once so few that all between the steps stays in the processor's cache.
_STRIPE, _IN_CACHE = 1 << 20, 1 << 16


def write_png(file: IO[bytes], picture: Picture, threads: int) -> None:
    """Write a PNG file of 8 or 16 bits a sample, with profile, EXIF and resolution.

    The bytes are the same by any number of threads. A few stripes are held in memory.

    Raises:
        OSError: if ``file`` does.
        DeflateError, MemoryError: if a stripe cannot be deflated.
    """
    height, width, channels = picture.pixels.shape
    file.write(PNG_SIGNATURE)
    sizes = struct.pack(">IIBBBBB", width, height, picture.depth, _COLOUR_TYPES[channels], 0, 0, 0)
    _write_chunk(file, b"IHDR", sizes)
    if picture.icc_profile is not None:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib_ng.compress(picture.icc_profile))
    if picture.dpi is not None:
        per_metre = (min(round(value / _INCH), 2**31 - 1) for value in picture.dpi)
        _write_chunk(file, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if picture.exif is not None:
        _write_chunk(file, b"eXIf", picture.exif.removeprefix(EXIF_PREFIX))
    rows = max(1, _STRIPE // (width * channels * picture.depth // 8))
    checksum, head = 1, b"\x78\x01"  # a zlib stream of 32 KiB to look back
    bounds = pairwise([*range(0, height, rows), height])
    with closing(in_order(partial(_stripe, picture.pixels), bounds, threads)) as stripes:
        for stripe in stripes:
            checksum = adler32_combine(checksum, stripe.checksum, stripe.size)
            data, head = head + stripe.deflated, b""
            for start in range(0, len(data), _LONGEST):
                _write_chunk(file, b"IDAT", data[start : start + _LONGEST])
    _write_chunk(file, b"IDAT", b"\x03\0" + struct.pack(">I", checksum))  # a last, empty block
    _write_chunk(file, b"IEND", b"")


def adler32_combine(first: int, second: int, size: int) -> int:
    """The Adler-32 of bytes whose first part has the one, and whose second part, so many bytes, has the other.

    RFC 1950: the lower half is 1 and the sum of the bytes, the upper one the sum of what the lower was after each.
    """
    before = (first & 0xFFFF) - 1
    lower = before + (second & 0xFFFF)
    upper = (first >> 16) + (second >> 16) + size * before
    return (upper % _ADLER_BASE) << 16 | lower % _ADLER_BASE


@dataclass(frozen=True, slots=True)
class _Stripe:
    """Some rows as part of a zlib stream."""

    deflated: bytes
    checksum: int
    size: int
    """In bytes, of what was deflated."""


def _stripe(pixels: Pixels, bounds: tuple[int, int]) -> _Stripe:
    top, bottom = bounds
    rows = pixels[max(top - 1, 0) : bottom]
    samples = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
    if top == 0:  # above the picture are zeros
        samples = np.concatenate((np.zeros_like(samples[:1]), samples))
    filtered = _filtered(samples, pixels.shape[2] * pixels.itemsize)
    return _Stripe(deflate_blocks(filtered), zlib_ng.adler32(filtered), filtered.size)


def _filtered(samples: Bytes, pixel: int) -> Bytes:
    """Rows, each after the number of its filter.

    Args:
        samples: bytes of the rows, after the row above.
        pixel: so many are a pixel's.
    """
    height, width = samples.shape[0] - 1, samples.shape[1]
    out = np.empty((height, 1 + width), np.uint8)
    out[:, 0] = _least(samples, pixel)
    step = max(1, _IN_CACHE // width)
    for top in range(0, height, step):
        _filter_each(samples[top : top + step + 1], pixel, out[top : top + step])
    return out


def _least(samples: Bytes, pixel: int) -> Bytes:
    """The filter of each row that leaves least, taken as signed: the rule of thumb of the PNG standard.

    The filter by a mean is left out: it is seldom better than Paeth's and never by much.
    """
    some = np.ascontiguousarray(samples[:, ::_SAMPLED])
    left = np.zeros_like(some)
    left[:, 1:] = samples[:, _SAMPLED - pixel :: _SAMPLED][:, : some.shape[1] - 1]
    plain, above, corner, left = some[1:], some[:-1], left[:-1], left[1:]
    weights = [_weights(rest) for rest in (plain, plain - left, plain - above, plain - _paeth(left, above, corner))]
    filters: Bytes = _FILTERS[np.argmin(weights, axis=0)]
    return filters


def _weights(rows: Bytes) -> NDArray[np.uint32]:
    """Sums of what the bytes of each row are as signed numbers, without their signs."""
    sums: NDArray[np.uint32] = np.abs(rows.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32)
    return sums  # of the longest rows they may wrap, for which only the choice is worse


def _filter_each(samples: Bytes, pixel: int, out: Bytes) -> None:
    """Put each row, whose filter's number ``out`` has, through that filter."""
    rows, above, filters = samples[1:], samples[:-1], out[:, 0]
    for index, number in enumerate(set(filters.tolist())):
        expected = _expected(number, rows, above, pixel)
        if index == 0:  # all rows, most often of one filter; others then replace their own
            np.subtract(rows, expected, out=out[:, 1:])
        else:
            these = filters == number
            out[these, 1:] = rows[these] - expected[these]


def _expected(number: int, rows: Bytes, above: Bytes, pixel: int) -> Bytes:
    """What the filter takes from the rows. To the left of the picture are zeros."""
    if number == _ABOVE:
        return above
    if number == _PAETH:
        # All rows as one line, on which the end of one is left of the next; then their beginnings as they should be.
        line, line_above = rows.reshape(-1), above.reshape(-1)
        nearest = _paeth(line[:-pixel], line_above[pixel:], line_above[:-pixel])
        expected = np.concatenate((line_above[:pixel], nearest)).reshape(rows.shape)
        expected[:, :pixel] = above[:, :pixel]
        return expected
    expected = np.zeros_like(rows)
    if number == _BEFORE:
        expected[:, pixel:] = rows[:, :-pixel]
    return expected


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours the one that is nearest to left + above - corner.

    Which is the lesser of two if the corner is no less than they are, the greater if it is no greater. A corner between
    them is taken unless it is no more than half as far from one as from the other; then that other is. Put so, it all
    fits into bytes.
    """
    low, high = np.minimum(left, above), np.maximum(left, above)
    middle: Bytes = np.maximum(np.minimum(corner, high), low)  # several times as fast as np.clip
    up, down = high - middle, middle - low
    less = np.minimum(up, down)  # of the two; without it none is below zero
    to_low, to_high = (up <= down - less).view(np.uint8), (down <= up - less).view(np.uint8)
    up *= to_high
    down *= to_low
    middle += up
    middle -= down
    return middle


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))))
