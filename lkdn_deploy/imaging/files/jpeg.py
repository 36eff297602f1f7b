"""JPEG files, written in stripes of rows that several threads encode independently of each other.

Restart markers (ITU T.81, E.1.4), at which every decoder begins anew, stand between the stripes: the pixels are those
of a file without them. Reading is Pillow's.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import IO

import numpy as np
from PIL import Image

from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.bands import Bands, rechunked
from lkdn_deploy.imaging.files.compression import imagecodecs
from lkdn_deploy.imaging.files.picture import Description
from lkdn_deploy.imaging.pixels import Pixels

_BLOCK = 8  # pixels a side of what is transformed at once: the unit of a scan without chroma subsampling
_MAX_INTERVAL = 65535  # units between two restart markers
_STRIPE = 1 << 19  # bytes of samples, about
_START, _END, _SCAN, _FRAME, _INTERVAL, _RESTART = 0xD8, 0xD9, 0xDA, 0xC0, 0xDD, 0xD0
_APPLICATION = range(0xE0, 0xF0)  # markers of metadata: JFIF, EXIF, XMP, colour profile
_COMMENT = 0xFE
_IPTC_HEAD = b"Photoshop 3.0\08BIM\x04\x04\0\0"


def write_jpeg(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a baseline JPEG file of 8 bits per sample and full colour resolution (4:4:4), with its metadata.

    Args:
        file: to write to. Only a few stripes are held in memory.
        description: of a picture, grey or RGB, of 8 bits per sample.
        bands: its rows.
        quality: 1 to 100.
        threads: number of threads that encode; the bytes do not depend on it.

    Raises:
        MissingError: if imagecodecs is not installed.
        OSError: if ``file`` does.
        RuntimeError, ValueError, MemoryError: from the encoder.
    """
    header = description.header
    units = -(-header.width // _BLOCK)
    lines = max(1, min(_STRIPE // (header.width * header.channels * _BLOCK), _MAX_INTERVAL // units))
    parts = rechunked(bands, header.shape, header.dtype, lines * _BLOCK)
    with closing(in_order(partial(_encoded, quality), parts, threads)) as stripes:
        for number, stripe in enumerate(stripes):
            if number == 0:
                file.write(_header(description, stripe, None if header.height <= lines * _BLOCK else lines * units))
            else:
                file.write(bytes((0xFF, _RESTART + (number - 1) % 8)))
            file.write(_scan(stripe))
    file.write(bytes((0xFF, _END)))


def _encoded(quality: int, pixels: Pixels) -> bytes:
    """Encode rows as a JPEG file of their own."""
    # A copy: of single rows and columns, a view may have strides that the encoder does not take.
    samples = np.array(pixels[..., 0] if pixels.shape[2] == 1 else pixels, order="C")
    return bytes(imagecodecs().jpeg8_encode(samples, level=quality, subsampling="444"))


def _header(description: Description, stripe: bytes, interval: int | None) -> bytes:
    """Return all that comes before the first scan: Pillow's metadata segments, then the first stripe's own segments."""
    stand_in = io.BytesIO()
    mode = "L" if description.header.channels == 1 else "RGB"
    Image.new(mode, (1, 1)).save(stand_in, "JPEG", **description.metadata)
    header = bytes((0xFF, _START))
    header += b"".join(segment for marker, segment in _segments(stand_in.getvalue()) if marker in _APPLICATION)
    iptc = description.iptc
    if iptc is not None:
        records = struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
        header += _segment(_APPLICATION[13], _IPTC_HEAD + records)
    for kind, data in description.texts:
        if (kind, data[:8]) == (b"tEXt", b"Comment\0"):
            header += _segment(_COMMENT, data[8:])
    for marker, segment in _segments(stripe):
        if marker == _FRAME:  # the height follows the marker, the length and the bits per sample
            header += segment[:5] + struct.pack(">H", description.header.height) + segment[7:]
        elif marker == _SCAN:
            header += (struct.pack(">BBHH", 0xFF, _INTERVAL, 4, interval) if interval else b"") + segment
        elif marker not in _APPLICATION:
            header += segment
    return header


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def _scan(stripe: bytes) -> memoryview:
    """Return the entropy-coded data of a file, without the end marker."""
    start = 2 + sum(len(segment) for _, segment in _segments(stripe))
    return memoryview(stripe)[start:-2]


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment up to and including the one that starts the scan."""
    at, marker = 2, 0
    while marker != _SCAN:
        _, marker, length = struct.unpack_from(">BBH", data, at)
        yield marker, data[at : at + 2 + length]
        at += 2 + length
