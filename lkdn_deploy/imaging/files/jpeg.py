"""Pictures to JPEG files, in stripes of rows that several threads encode, each for itself.

Between stripes stand restart markers (ITU T.81, E.1.4), at which every decoder begins anew: the pixels are those of a
file without them.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import IO, Any

import numpy as np
from PIL import Image

from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.files.codecs import imagecodecs
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.pixels import Pixels

_BLOCK = 8  # pixels a side of what is transformed at once; without subsampling, the unit that a scan consists of
_MOST_UNITS = 65535  # from one restart to the next
_STRIPE = 1 << 19  # bytes of samples, about
_START, _END, _SCAN, _FRAME, _INTERVAL, _RESTART = 0xD8, 0xD9, 0xDA, 0xC0, 0xDD, 0xD0
_APPLICATION = range(0xE0, 0xF0)  # markers of what applications say of the picture


def write_jpeg(file: IO[bytes], picture: Picture, quality: int, options: dict[str, Any], threads: int) -> None:
    """Write a baseline JPEG file of 8 bits a sample and full colour resolution.

    Args:
        file: where to.
        picture: grey or RGB.
        quality: 1 to 100.
        options: of Pillow's encoder: profile, EXIF and resolution.
        threads: so many encode. The bytes are the same by any number of them.

    Raises:
        OSError: if ``file`` does.
        RuntimeError, ValueError, MemoryError: if the encoder does.
    """
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    units = -(-width // _BLOCK)
    lines = max(1, min(_STRIPE // (pixels[0].nbytes * _BLOCK), _MOST_UNITS // units))
    parts = (pixels[top : top + lines * _BLOCK] for top in range(0, height, lines * _BLOCK))
    with closing(in_order(partial(_encoded, quality), parts, threads)) as stripes:
        for number, stripe in enumerate(stripes):
            if number == 0:
                file.write(_head(picture, stripe, None if height <= lines * _BLOCK else lines * units, options))
            else:
                file.write(bytes((0xFF, _RESTART + (number - 1) % 8)))
            file.write(_scan(stripe))
    file.write(bytes((0xFF, _END)))


def _encoded(quality: int, pixels: Pixels) -> bytes:
    """A file of its own."""
    samples = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return bytes(imagecodecs().jpeg8_encode(samples, level=quality, subsampling="444"))


def _head(picture: Picture, stripe: bytes, interval: int | None, options: dict[str, Any]) -> bytes:
    """All before the first stripe's scan: what Pillow says of the picture, and how that stripe was encoded."""
    stand_in = io.BytesIO()
    Image.new("L" if picture.channels == 1 else "RGB", (1, 1)).save(stand_in, "JPEG", **options)
    head = bytes((0xFF, _START))
    head += b"".join(segment for marker, segment in _segments(stand_in.getvalue()) if marker in _APPLICATION)
    for marker, segment in _segments(stripe):
        if marker == _FRAME:  # after its length and the bits a sample, the height
            head += segment[:5] + struct.pack(">H", picture.height) + segment[7:]
        elif marker == _SCAN:
            head += (struct.pack(">BBHH", 0xFF, _INTERVAL, 4, interval) if interval else b"") + segment
        elif marker not in _APPLICATION:
            head += segment
    return head


def _scan(stripe: bytes) -> memoryview:
    """What comes of the pixels, without the mark of the file's end."""
    start = 2 + sum(len(segment) for _, segment in _segments(stripe))
    return memoryview(stripe)[start:-2]


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and the whole of each segment, to the one that is followed by a scan."""
    at, marker = 2, 0
    while marker != _SCAN:
        _, marker, length = struct.unpack_from(">BBH", data, at)
        yield marker, data[at : at + 2 + length]
        at += 2 + length
