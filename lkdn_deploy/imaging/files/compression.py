"""Compression libraries: deflate by zlib-ng for PNG and TIFF, and imagecodecs, loaded when first needed.

An upscaled photograph repeats hardly anything but single bytes, so deflate's usual search through the last 32 KiB
costs time and gains nothing. Two of zlib-ng's strategies take its place: run lengths of one byte (Z_RLE) where long
runs are frequent, Huffman codes alone (Z_HUFFMAN_ONLY) elsewhere. Of four photographs upscaled x4, PNG files are 3 to
9 % smaller than at zlib's level 6, 16-bit ones 3 to 5 %; of drawn text they are as large, and TIFF files within 2 %.
"""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from lkdn_deploy.core.errors import MissingError

DeflateError: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # a class, whatever its stub says

STREAM_HEAD = b"\x78\x01"
"""The first bytes of a zlib stream with a window of 32 KiB."""

_SHORT, _LONG = 4, 16  # bytes of a run
_SHARE = 0.3  # of short runs that are also long; above it, files are smaller with run lengths
_SAMPLED = 1000  # places examined


def imagecodecs() -> ModuleType:
    """Return the imagecodecs package.

    Raises:
        MissingError: if it is not installed.
    """
    try:
        import imagecodecs
    except ImportError as error:
        msg = "this file needs the package imagecodecs, which is not installed"
        raise MissingError(msg, "pip install imagecodecs") from error
    return imagecodecs


def zlib_stream(samples: NDArray[Any]) -> bytes:
    """Return the array's bytes as a zlib stream with header and checksum (RFC 1950).

    Raises:
        DeflateError: if zlib-ng fails.
    """
    data = _bytes_of(samples)
    return STREAM_HEAD + _deflated(data, zlib_ng.Z_FINISH) + zlib_ng.adler32(data.data).to_bytes(4, "big")


def deflate_blocks(samples: NDArray[Any]) -> bytes:
    """Return the array's bytes as deflate blocks (RFC 1951) that end on a byte, none marked as the last.

    Raises:
        DeflateError: if zlib-ng fails.
    """
    return _deflated(_bytes_of(samples), zlib_ng.Z_SYNC_FLUSH)


def _bytes_of(samples: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(samples).reshape(-1).view(np.uint8)


def _deflated(data: NDArray[np.uint8], flush: int) -> bytes:
    strategy = zlib_ng.Z_RLE if _share_of_long_runs(data) > _SHARE else zlib_ng.Z_HUFFMAN_ONLY
    deflate = zlib_ng.compressobj(wbits=-zlib_ng.MAX_WBITS, memLevel=9, strategy=strategy)
    return deflate.compress(data.data) + deflate.flush(flush)


def _share_of_long_runs(data: NDArray[np.uint8]) -> float:
    """Return the share of runs long enough to make up for short ones, whose codes cost more than their bytes."""
    pieces = data[: len(data) // _LONG * _LONG].reshape(-1, _LONG)
    some = pieces[:: len(pieces) // _SAMPLED | 1]  # an odd step, so as not to be in step with the rows
    same = some == some[:, :1]
    short, long = (np.count_nonzero(same[:, :length].all(axis=1)) for length in (_SHORT, _LONG))
    return long / short if short else 0.0
