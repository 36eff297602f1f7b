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
_FILTERS = np.array([0, 1, 2, 4], np.uint8)  # none, the pixel before, that above, and Paeth's choice
_INCH = 0.0254
_ADLER_BASE = 65521
_LONGEST = 2**31 - 1  # bytes of a chunk

# One byte of a row in so many decides on its filter. A prime, so that all of a pixel's get their turn.
_SAMPLED = 17

# Bytes of samples: of a stripe so many that its own codes, and its beginning without anything to look back to, are
# worth 0.1 % of the file; of what is filtered at once so few that all between the steps stays in the processor's cache.
_STRIPE, _IN_CACHE = 1 << 20, 1 << 18


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
    above = max(top - 1, 0)
    rows = pixels[above:bottom]
    samples = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
    pixel = pixels.shape[2] * pixels.itemsize
    # To the left of the picture and above it are zeros.
    padded = np.zeros((bottom - top + 1, pixel + samples.shape[1]), np.uint8)
    padded[above - bottom :, pixel:] = samples
    filtered = _filtered(padded, pixel)
    return _Stripe(deflate_blocks(filtered), zlib_ng.adler32(filtered), filtered.size)


def _filtered(padded: Bytes, pixel: int) -> Bytes:
    """Rows, each after the number of its filter.

    Args:
        padded: bytes of the rows, with the row above and those of a pixel to the left.
        pixel: so many these are.
    """
    height, width = padded.shape[0] - 1, padded.shape[1] - pixel
    rows = np.empty((height, 1 + width), np.uint8)
    step = max(1, _IN_CACHE // width)
    for top in range(0, height, step):
        _filter_each(padded[top : top + step + 1], pixel, rows[top : top + step])
    return rows


def _filter_each(padded: Bytes, pixel: int, out: Bytes) -> None:
    """Put each row through the filter that leaves least, taken as signed: the rule of thumb of the PNG standard.

    The filter by a mean is left out: it is seldom better than Paeth's and never by much.
    """
    plain, left = padded[1:, pixel:], padded[1:, :-pixel]
    above, corner = padded[:-1, pixel:], padded[:-1, :-pixel]
    predictions = np.zeros_like(plain), left, above, _paeth(left, above, corner)
    some = np.s_[:, ::_SAMPLED]
    least = np.argmin([_weights(plain[some] - prediction[some]) for prediction in predictions], axis=0)
    out[:, 0] = _FILTERS[least]
    for index, prediction in enumerate(predictions):
        rows = least == index
        out[rows, 1:] = plain[rows] - prediction[rows]


def _weights(rows: Bytes) -> NDArray[np.uint32]:
    """Sums of what the bytes of each row are as signed numbers, without their signs."""
    sums: NDArray[np.uint32] = np.minimum(rows, -rows).sum(axis=1, dtype=np.uint32)
    return sums  # of the longest rows they may wrap, for which only the choice is worse


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours the one that is nearest to left + above - corner.

    Which is the lesser of two if the corner is no less than they are, the greater if it is no greater. A corner between
    them is taken unless it is no more than half as far from one as from the other; then that other is. Put so, it all
    fits into bytes.
    """
    low, high = np.minimum(left, above), np.maximum(left, above)
    middle: Bytes = np.maximum(np.minimum(corner, high), low)  # several times as fast as np.clip
    up, down = high - middle, middle - low
    to_low = (up <= down >> 1).view(np.uint8)
    to_high = (down <= up >> 1).view(np.uint8)
    nearest: Bytes = middle - down * to_low + up * to_high
    return nearest


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))))
