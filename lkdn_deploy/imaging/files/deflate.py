"""How samples are compressed in PNG and TIFF files.

What comes again is looked for in the sample before only. In what a network gives nothing else does, so that the usual
search through 32 KiB takes time for nothing: of four photographs upscaled x4, PNG files are 3 to 9 % smaller than by
the usual way at level 6, 16-bit ones 3 to 5 %; of drawn text they are as large, and TIFF files within 2 %.

Where few runs are long, not even there: bytes by their codes alone. Files of upscaled photographs are 3 % smaller to
1 % larger for it, those of the photographs of Set5 and Set14 themselves 0 to 3 % larger. No library's encoder is made
for that: zlib-ng takes 3.2 ns a byte, more than all else between the pixels and the file; ISA-L's igzip 2.4, and
libdeflate 4, with files that are 8 to 10 % larger. So it is this toolkit's own (``huffman``), where machine code can be
had: 0.9 ns, with files 0.1 to 0.5 % larger than zlib-ng's.

Else, for small pictures, and to look for runs, it is zlib-ng's, 1.6 times as fast as zlib, with files as large.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from lkdn_deploy.imaging.files.huffman import huffman_block

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops

DeflateError: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # a class, whatever its stub says

STREAM_HEAD = b"\x78\x01"
"""Of a zlib stream with 32 KiB to look back."""

_SHORT, _LONG = 4, 16  # bytes of a run
_SHARE = 0.3  # of short runs that are also long ones, above which files are smaller if runs are looked for
_SHARE_IN_HASTE = 0.4  # above which that is worth it where codes alone take a fifth of the time
_LOOKED_AT = 1000  # places


def zlib_stream(samples: NDArray[Any], loops: "Loops | None") -> bytes:
    """The array's bytes in a stream with head and checksum, RFC 1950, by machine code if it is given.

    Raises:
        DeflateError: if it cannot be made.
    """
    data = _bytes_of(samples)
    checksum = zlib_ng.adler32(data.data)
    return STREAM_HEAD + _deflated(data, loops, last=True) + checksum.to_bytes(4, "big")


def deflate_blocks(samples: NDArray[Any], loops: "Loops | None") -> bytes:
    """The array's bytes in blocks of RFC 1951 that end with a byte, none of them marked as the last.

    By machine code if it is given.

    Raises:
        DeflateError: if they cannot be made.
    """
    return _deflated(_bytes_of(samples), loops, last=False)


def _bytes_of(samples: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(samples).reshape(-1).view(np.uint8)


def _deflated(data: NDArray[np.uint8], loops: "Loops | None", *, last: bool) -> bytes:
    runs = _share_of_long(data) > (_SHARE if loops is None else _SHARE_IN_HASTE)
    if loops is not None and not runs:
        return huffman_block(data, loops, last=last)
    strategy = zlib_ng.Z_RLE if runs else zlib_ng.Z_HUFFMAN_ONLY
    deflate = zlib_ng.compressobj(wbits=-zlib_ng.MAX_WBITS, memLevel=9, strategy=strategy)
    return deflate.compress(data.data) + deflate.flush(zlib_ng.Z_FINISH if last else zlib_ng.Z_SYNC_FLUSH)


def _share_of_long(data: NDArray[np.uint8]) -> float:
    """Of runs, those so long that what they save makes up for the shortest, which cost more than their bytes."""
    pieces = data[: len(data) // _LONG * _LONG].reshape(-1, _LONG)
    some = pieces[:: len(pieces) // _LOOKED_AT | 1]  # odd, so as not to be in step with the rows
    same = some == some[:, :1]
    short, long = (np.count_nonzero(same[:, :length].all(axis=1)) for length in (_SHORT, _LONG))
    return long / short if short else 0.0
