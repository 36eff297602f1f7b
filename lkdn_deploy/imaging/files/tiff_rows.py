"""Rows of TIFF files, of which a strip or a row of tiles is decoded at a time (TIFF 6.0, sections 3 and 15)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.compression import imagecodecs
from lkdn_deploy.imaging.pixels import Pixels

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, ZSTD = 1, 5, 7, 8, 32946, 32773, 50000
COMPRESSIONS = frozenset((NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, ZSTD))
"""Compressions that are decoded here; each has a decoder that writes into memory of a given size."""

Integers = NDArray[np.int64]

_RGB = 2  # photometric interpretation
_UNCOMPRESSED = 1 << 20  # bytes that are read at once of strips that are not compressed
_SLACK = 1 << 16  # bytes that a compressed segment may have beyond twice its samples


@dataclass(frozen=True, slots=True, eq=False)
class SegmentGrid:
    """The places of a file's samples: in strips over the full width, or in tiles. All its values come from the file.

    Attributes:
        height, width: of the picture, in pixels.
        samples: of each pixel.
        dtype: of the samples, with the file's byte order.
        rows, columns: of each segment. Tiles are whole where they stick out of the picture; strips end with it.
        offsets, sizes: of each segment, int64 bytes; from left to right, then from top to bottom.
        compression: one of ``COMPRESSIONS``.
        predicted: whether samples are differences from those to the left.
        photometric: interpretation of the samples.
        tables: of JPEG.

    Raises:
        ValueError: if there are not as many segments as it takes, or their sizes make no sense.
    """

    height: int
    width: int
    samples: int
    dtype: np.dtype[Any]
    rows: int
    columns: int
    offsets: Integers
    sizes: Integers
    compression: int
    predicted: bool = False
    photometric: int = _RGB
    tables: bytes | None = None

    def __post_init__(self) -> None:
        expected = self.down * self.across if self.rows > 0 and self.columns > 0 else -1
        if not len(self.offsets) == len(self.sizes) == expected:
            msg = f"{len(self.offsets)} places and {len(self.sizes)} sizes of strips or tiles"
            raise ValueError(msg)
        most = 2 * self.segment_bytes + _SLACK
        if self.sizes.max() > most or min(self.sizes.min(), self.offsets.min()) < 0:
            msg = "a strip or tile is larger than its samples"
            raise ValueError(msg)

    @property
    def across(self) -> int:
        """Number of segments side by side."""
        return -(-self.width // self.columns)

    @property
    def down(self) -> int:
        """Number of segments one below the other."""
        return -(-self.height // self.rows)

    @property
    def segment_bytes(self) -> int:
        """Bytes of the samples of a whole segment."""
        return self.rows * self.columns * self.samples * self.dtype.itemsize

    @property
    def memory(self) -> int:
        """Bytes that reading takes: a segment in three forms, and rows around those that are asked for."""
        return 3 * self.segment_bytes + 2 * self.rows * self.width * self.samples * self.dtype.itemsize

    def split(self, file_size: int) -> "SegmentGrid":
        """Return the same place in thinner strips if the picture is a single one that is not compressed.

        Args:
            file_size: bytes of the file, which bound what is made of its claims.
        """
        row = self.width * self.samples * self.dtype.itemsize
        rows = max(_UNCOMPRESSED // row, 1)
        whole = self.rows == self.height and self.columns == self.width and self.compression == NONE
        if not whole or rows >= self.rows or self.offsets[0] + self.height * row > file_size:
            return self
        tops = np.arange(0, self.height, rows)
        sizes = np.minimum(rows, self.height - tops) * row
        return replace(self, rows=rows, offsets=self.offsets[0] + tops * row, sizes=sizes)


class TiffRows:
    """The rows of a TIFF file as a ``RowSource``; the last ones that were read are held.

    Args:
        file: the open file.
        grid: where its samples are.
        finish: makes pixels of samples as they are stored.
        channels: of the pixels.
    """

    def __init__(self, file: IO[bytes], grid: SegmentGrid, finish: Callable[[Pixels], Pixels], channels: int) -> None:
        self._file, self._grid, self._finish = file, grid, finish
        self.shape = (grid.height, grid.width, channels)
        self.dtype = grid.dtype.newbyteorder("=")
        self._top = 0
        self._held: Pixels = np.empty((0, grid.width, channels), self.dtype)

    def read(self, top: int, bottom: int) -> Pixels:
        """Return rows as ``RowSource.read`` does.

        Raises:
            InputError, RuntimeError, ValueError: if a strip or tile is damaged.
            MissingError: if imagecodecs is not installed.
        """
        step = self._grid.rows
        first, last = top // step, -(-bottom // step)
        start = first * step
        rows = np.empty((min(last * step, self.shape[0]) - start, *self.shape[1:]), self.dtype)
        held_first, held_last = self._top // step, -(-(self._top + len(self._held)) // step)
        for index in range(first, last):
            place = rows[index * step - start : (index + 1) * step - start]
            if held_first <= index < held_last:
                place[:] = self._held[index * step - self._top : (index + 1) * step - self._top]
            else:
                self._decode_row(index, place)
        self._top, self._held = start, rows
        return rows[top - start : bottom - start]

    def _decode_row(self, index: int, place: Pixels) -> None:
        """Decode a row of segments."""
        grid = self._grid
        for column in range(grid.across):
            left = column * grid.columns
            part = place[:, left : left + grid.columns]
            samples = self._decode(index * grid.across + column, len(part))
            part[:] = self._finish(samples[: len(part), : part.shape[1]])

    def _decode(self, number: int, least: int) -> Pixels:
        """Decode a segment of at least so many rows."""
        grid = self._grid
        shape = (grid.rows, grid.columns, grid.samples)
        self._file.seek(grid.offsets[number])
        data = self._file.read(grid.sizes[number])
        if grid.compression == JPEG:
            return self._decode_jpeg(data, least)
        decoded = np.frombuffer(_decompressed(data, grid.compression, grid.segment_bytes), np.uint8)
        row = grid.columns * grid.samples * grid.dtype.itemsize
        if len(decoded) < least * row:
            msg = f"a strip or tile has {len(decoded):,} bytes of {least * row:,}"
            raise InputError(msg, "the file may be cut off or damaged")
        samples = decoded[: len(decoded) // row * row].view(grid.dtype).reshape(-1, *shape[1:]).astype(self.dtype)
        return np.asarray(imagecodecs().delta_decode(samples, axis=1)) if grid.predicted else samples

    def _decode_jpeg(self, data: bytes, least: int) -> Pixels:
        grid = self._grid
        options: dict[str, Any] = {"tables": grid.tables}
        if grid.samples == 3:
            options |= {"colorspace": "rgb" if grid.photometric == _RGB else "ycbcr", "outcolorspace": "rgb"}
        for rows in {grid.rows, least}:  # the last strip may be whole or not
            shape = (rows, grid.columns) + (grid.samples,) * (grid.samples > 1)
            # Into an array of the size that the directory gives, so that no file can make it allocate more.
            try:
                decoded = imagecodecs().jpeg8_decode(data, out=np.empty(shape, np.uint8), **options)
            except ValueError:
                continue
            return np.asarray(decoded).reshape(rows, grid.columns, grid.samples)
        msg = "a strip or tile is not of the size that the directory gives"
        raise InputError(msg, "the file may be damaged")


def _decompressed(data: bytes, compression: int, size: int) -> bytes:
    """Return at most ``size`` bytes of samples.

    Raises:
        RuntimeError, ValueError: if the data are damaged, or hold more.
        MissingError: if imagecodecs is not installed.
    """
    if compression == NONE:
        return data[:size]
    codecs = imagecodecs()
    decode = {LZW: codecs.lzw_decode, PACKBITS: codecs.packbits_decode, ZSTD: codecs.zstd_decode}
    return bytes(decode.get(compression, codecs.zlib_decode)(data, out=size))
