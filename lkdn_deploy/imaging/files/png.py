"""PNG files: chunks that Pillow does not reach, and 16 bits a sample, which it has only for grey."""

import struct
import zlib
from typing import IO

import numpy as np

from lkdn_deploy.imaging.files.deep import imagecodecs
from lkdn_deploy.imaging.files.metadata import EXIF_PREFIX
from lkdn_deploy.imaging.files.picture import DEFLATE_STRATEGY, Picture
from lkdn_deploy.imaging.layout import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and the IHDR chunk, which always comes first
_INCH = 0.0254


def png_depth(start: bytes) -> int:
    """Bits a sample from the first bytes of a PNG file; 0 if they are of no PNG."""
    return start[24] if start.startswith(PNG_SIGNATURE) and len(start) >= _HEADER_END else 0


def png_exif(file: IO[bytes]) -> bytes:
    """The EXIF block of an open PNG file, empty if there is none; chunks are skipped over, not read.

    Pillow decodes all pixels to look for one behind them.
    """
    position = file.tell()
    file.seek(len(PNG_SIGNATURE))
    exif = b""
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"eXIf":
            exif = EXIF_PREFIX + file.read(length)
            break
        file.seek(length + 4, 1)
    file.seek(position)
    return exif


def decode_png(data: bytes, height: int, width: int, channels: int) -> Pixels:
    """(H, W, C) uint16 pixels of a 16-bit PNG; a colour key becomes alpha.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError: from imagecodecs, if the file is damaged or not of that size.
    """
    codecs = imagecodecs()
    # Given the place to decode to, the library cannot be talked into more than the header said.
    out = np.empty((height, width) if channels == 1 else (height, width, channels), np.uint16)
    return np.asarray(codecs.png_decode(data, out=out)).reshape(height, width, channels)


def encode_png(picture: Picture) -> bytes:
    """A 16-bit PNG file with profile, EXIF and resolution."""
    pixels = picture.pixels[..., 0] if picture.channels == 1 else picture.pixels
    encoded = memoryview(imagecodecs().png_encode(np.ascontiguousarray(pixels), strategy=DEFLATE_STRATEGY))
    chunks = []
    if picture.icc_profile is not None:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc_profile)))
    if picture.dpi is not None:
        per_metre = (min(round(value / _INCH), 2**31 - 1) for value in picture.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if picture.exif is not None:
        chunks.append(_chunk(b"eXIf", picture.exif.removeprefix(EXIF_PREFIX)))
    return b"".join([encoded[:_HEADER_END], *chunks, encoded[_HEADER_END:]])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
