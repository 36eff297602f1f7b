"""Pictures to PNG files, in stripes of rows that several threads filter and deflate, each for itself."""

import struct
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import IO, TYPE_CHECKING

import numpy as np
from zlib_ng import zlib_ng

from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.files.deflate import STREAM_HEAD, deflate_blocks
from lkdn_deploy.imaging.files.exif import EXIF_PREFIX
from lkdn_deploy.imaging.files.machine_code import loops_for
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.png import PNG_SIGNATURE
from lkdn_deploy.imaging.files.png_filters import filtered
from lkdn_deploy.imaging.pixels import Pixels

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_INCH = 0.0254
_ADLER_BASE = 65521
_LONGEST = 2**31 - 1  # bytes of a chunk

# Bytes of samples of a stripe: so many that its own codes, and its beginning without anything to look back to, are
# worth 0.1 % of the file.
_STRIPE = 1 << 21


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
    checksum, head = 1, STREAM_HEAD
    bounds = pairwise([*range(0, height, rows), height])
    work = partial(_stripe, picture.pixels, loops_for(picture.pixels.nbytes))
    with closing(in_order(work, bounds, threads)) as stripes:
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


def _stripe(pixels: Pixels, loops: "Loops | None", bounds: tuple[int, int]) -> _Stripe:
    top, bottom = bounds
    rows = pixels[max(top - 1, 0) : bottom]
    samples = np.ascontiguousarray(rows, rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
    if top == 0:  # above the picture are zeros
        samples = np.concatenate((np.zeros_like(samples[:1]), samples))
    rest = filtered(samples, pixels.shape[2] * pixels.itemsize, loops)
    return _Stripe(deflate_blocks(rest, loops), zlib_ng.adler32(rest), rest.size)


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))))
