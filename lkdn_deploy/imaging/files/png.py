"""PNG files read: chunks that Pillow does not reach, and 16 bits a sample, which it has only for grey."""

import struct
from typing import IO

import numpy as np

from lkdn_deploy.imaging.files.codecs import imagecodecs
from lkdn_deploy.imaging.files.metadata import EXIF_PREFIX
from lkdn_deploy.imaging.layout import Pixels

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and the IHDR chunk, which always comes first


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
