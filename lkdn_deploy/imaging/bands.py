"""Pictures as bands of rows, from top to bottom, of which only a few are in memory at a time."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np

from lkdn_deploy.imaging.pixels import Pixels

Bands: TypeAlias = Iterable[Pixels]
"""Rows of a picture, from top to bottom: arrays (h, W, C) of any heights, which add up to that of the picture."""


class RowSource(Protocol):
    """A picture of which a part of the rows can be read at a time."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the picture: (height, width, channels)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples: uint8, uint16 or float32."""
        ...

    def read(self, top: int, bottom: int) -> Pixels:
        """Return the rows ``top..bottom``, which must not be written to.

        Parts may overlap. They cost least in order; to go back is possible, but may decode much again.

        Raises:
            LkdnError: if the rows cannot be read.
        """
        ...


class ArrayRows:
    """A picture in memory as a ``RowSource``.

    Args:
        pixels: (H, W, C).
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.shape: tuple[int, int, int] = pixels.shape
        self.dtype: np.dtype[Any] = pixels.dtype

    def read(self, top: int, bottom: int) -> Pixels:
        """Return a view of the rows."""
        return self._pixels[top:bottom]


class PaddedRows:
    """A picture with its edge repeated on all sides, up to a larger size.

    Repeating the edge on all sides changes least, and keeps a network's own padding away from the picture.

    Args:
        source: the picture.
        size: height and width of the padded one.
    """

    def __init__(self, source: RowSource, size: tuple[int, int]) -> None:
        self._source = source
        height, width, channels = source.shape
        down, across = size[0] - height, size[1] - width
        self._above, self._left, self._right = down - down // 2, across - across // 2, across // 2
        self.shape = (height + down, width + across, channels)
        self.dtype = source.dtype

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the picture itself."""
        height, width, _ = self._source.shape
        return slice(self._above, self._above + height), slice(self._left, self._left + width)

    def read(self, top: int, bottom: int) -> Pixels:
        """Return rows with the columns beside them."""
        rows = np.clip(np.arange(top, bottom) - self._above, 0, self._source.shape[0] - 1)
        found = self._source.read(rows[0], rows[-1] + 1)[rows - rows[0]]
        return np.pad(found, ((0, 0), (self._left, self._right), (0, 0)), mode="edge")


class WrappedRows:
    """A picture that goes on at its opposite edges, as a texture that tiles does, with a margin of that on all sides.

    Args:
        source: the picture.
        margin: rows and columns on each side; they may be more than the picture has.
    """

    def __init__(self, source: RowSource, margin: int) -> None:
        self._source, self._margin = source, margin
        height, width, channels = source.shape
        self.shape = (height + 2 * margin, width + 2 * margin, channels)
        self.dtype = source.dtype
        self._columns = np.arange(-margin, width + margin) % width

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the picture itself."""
        height, width, _ = self._source.shape
        return slice(self._margin, self._margin + height), slice(self._margin, self._margin + width)

    def read(self, top: int, bottom: int) -> Pixels:
        """Return rows with the columns beside them."""
        height = self._source.shape[0]
        parts = []
        at, end = top - self._margin, bottom - self._margin
        while at < end:
            start = at % height
            part = self._source.read(start, min(start + end - at, height))
            parts.append(part[:, self._columns])
            at += len(part)
        return np.concatenate(parts)


def rechunked(bands: Bands, shape: tuple[int, int, int], dtype: np.dtype[Any], rows: int) -> Iterator[Pixels]:
    """Yield the same rows in bands of ``rows`` rows, the last one of what is left.

    Args:
        bands: of any heights.
        shape: of the whole picture, (height, width, channels).
        dtype: of its samples.
        rows: of each band that is yielded: a view where it lies within one of ``bands``, a copy elsewhere.

    Raises:
        ValueError: if the rows are not those of such a picture.
    """
    height, *row = shape
    done = 0
    begun: Pixels | None = None  # a chunk of which rows are missing
    for band in bands:
        if list(band.shape[1:]) != row or band.dtype != dtype or done + len(band) > height:
            break
        at = 0
        while at < len(band):
            filled = done % rows
            size = min(rows, height - done + filled)
            part = band[at : at + size - filled]
            at, done = at + len(part), done + len(part)
            if len(part) == size:
                chunk: Pixels | None = part
            else:  # copied, as a view would keep the whole band
                begun = np.empty((size, *row), dtype) if begun is None else begun
                begun[filled : filled + len(part)] = part
                chunk, begun = (begun, None) if filled + len(part) == size else (None, begun)
            del part
            if chunk is not None:
                yield chunk
            del chunk
        del band  # or it would stay while the next one is made
    else:
        if done == height:
            return
    msg = f"the rows that came are not those of a picture of {shape[1]}×{height} with {shape[2]} channels"
    raise ValueError(msg)
