"""PNG files read: chunks that Pillow does not reach, 16 bits a sample, which it has only for grey, and 8 faster."""

import struct
from typing import IO, Any

import numpy as np

from lkdn_deploy.imaging.files.codecs import imagecodecs
from lkdn_deploy.imaging.files.exif import EXIF_PREFIX
from lkdn_deploy.imaging.pixels import Pixels

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
    """(H, W, C) uint8 pixels of a PNG of 8 bits a sample: grey, RGB or RGBA, without a colour key.

    In little more than half of Pillow's time, all of which others may run.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError: from imagecodecs, if the file is damaged or not of that size.
    """
    return _decoded(imagecodecs().spng_decode, data, (height, width, channels), np.uint8)


def decode_deep_png(data: bytes, height: int, width: int, channels: int) -> Pixels:
    """(H, W, C) uint16 pixels of a 16-bit PNG; a colour key becomes alpha.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError: from imagecodecs, if the file is damaged or not of that size.
    """
    return _decoded(imagecodecs().png_decode, data, (height, width, channels), np.uint16)


def _decoded(decode: Any, data: bytes, shape: tuple[int, int, int], dtype: Any) -> Pixels:
    # Given the place to decode to, the library cannot be talked into more than the header said.
    out = np.empty(shape[:2] if shape[2] == 1 else shape, dtype)
    return np.asarray(decode(data, out=out)).reshape(shape)
