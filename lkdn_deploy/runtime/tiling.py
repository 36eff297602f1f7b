"""Runs a network over the tiles of a picture, row of tiles by row of tiles, and hands over rows that are finished."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, NonFiniteError, OutOfDeviceMemory
from lkdn_deploy.core.protocols import PixelSession, Session
from lkdn_deploy.imaging.alpha import FilledColour
from lkdn_deploy.imaging.bands import PaddedRows, RowSource, WrappedRows
from lkdn_deploy.imaging.pixels import Pixels, store_batch, to_batch
from lkdn_deploy.imaging.resize import reduce_bands
from lkdn_deploy.imaging.tiles import Tile

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of finished tiles and of all tiles: with none finished at the start, then after each."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory in which rows are computed.

    Attributes:
        budget: bytes for a window of the network, with the rows that are read for it and the bands of its result.
        pixel: bytes for each pixel of a window beside those that the session counts.
        source_row: bytes for each row that is read.
        result_row: bytes of the result of each row.
    """

    budget: int
    pixel: int
    source_row: int
    result_row: int

    def beside(self, rows: int, columns: int, kept: int, *, whole: bool) -> int:
        """Return the bytes that a row of tiles takes beside the network.

        Args:
            rows, columns: of a window.
            kept: rows of the source whose result is kept.
            whole: whether they are all rows; if not, one band is filled while another one is written.
        """
        return rows * columns * self.pixel + rows * self.source_row + (1 if whole else 2) * kept * self.result_row


@dataclass(frozen=True, slots=True, eq=False)
class Cutting:
    """The way in which pictures are cut into tiles.

    Attributes:
        plan: gives the tiles that compute the rows of a picture of this height and width from a row on; raises
            UsageError if the network cannot process such a picture.
        shrink: makes later plans have smaller windows than that of this tile, for which a device had no memory; raises
            OutOfDeviceMemory if that is not possible.
        exact: whether tiles give the same result as the whole picture.
        padded: gives the height and width that a picture of some height and width is padded to.
    """

    plan: Callable[[int, int, int], Sequence[Tile]]
    shrink: Callable[[Tile, OutOfDeviceMemory], None]
    exact: bool
    padded: Callable[[int, int], tuple[int, int]]


class _Step(NamedTuple):
    """One run of the network.

    Attributes:
        pixels: the window, (h, w, 1 or 3).
        tile: what is computed.
        channels: those of the result that it fills.
        first, last: whether it is the first, and the last, of its row of tiles.
    """

    pixels: Pixels
    tile: Tile
    channels: slice
    first: bool
    last: bool


def fills_pixels(session: Session, dtype: np.dtype[Any], channels: int) -> TypeGuard[PixelSession]:
    """Return whether the session writes pixels of this kind itself, without values in float32 in between."""
    return dtype == np.uint8 and channels == 3 and isinstance(session, PixelSession)


class UpscaledRows(Iterator[Pixels]):
    """The rows of an upscaled picture, from top to bottom, in bands (h, scale * W, C) as they are finished.

    Each band is a row of tiles, or what becomes of it in another size. It belongs to who takes it, and is not written
    to afterwards; the next one is computed when it is asked for. The iterator must be exhausted or closed; it closes
    itself as a context manager.

    Args:
        session: the network.
        source: the picture: uint8, uint16, or float32 in 0..1; 1 grey, 2 grey and alpha, 3 RGB or 4 RGBA.
        cutting: how it is cut.
        size: height and width that the result is reduced to; default: ``scale`` times those of the source.
        margin: rows and columns of the opposite edge to put around the picture, which then tiles; default: none.
        progress: called before the first tile and after each. The number of all grows if smaller tiles are needed.
        into: (scale * H, scale * W, C), of which the bands are to be parts; default: each has memory of its own. Not
            with ``size``.

    Attributes:
        shape: of the whole result, (scale * H, scale * W, C), or of ``size``.
        dtype: that of the source.
        tiles: number of windows that the picture is cut into; it grows if smaller ones are needed.
        exact: whether the result equals that of the whole picture.

    Raises:
        UsageError: if the artefact cannot process a picture of this size.
        InputError: while rows are computed, if the engine fails, or gives values that are not finite.
        OutOfDeviceMemory: while rows are computed, if the device has no memory for the smallest tiles.
    """

    def __init__(
        self,
        session: Session,
        source: RowSource,
        cutting: Cutting,
        *,
        size: tuple[int, int] | None = None,
        margin: int | None = None,
        progress: Progress | None = None,
        into: Pixels | None = None,
    ) -> None:
        self._session, self._cutting, self._progress, self._into = session, cutting, progress, into
        self._scale = scale = session.metadata.scale
        height, width, channels = source.shape
        full = scale * height, scale * width
        self.shape = (*(size or full), channels)
        self.dtype = source.dtype
        padded = cutting.padded(height, width)
        self._padded: PaddedRows | WrappedRows | None = None
        if margin is not None:
            self._padded = WrappedRows(source, margin)
        elif padded != (height, width):
            self._padded = PaddedRows(source, padded)
        self._source: RowSource = self._padded or source
        self._finished = 0  # rows of the source whose results are handed over
        self._windows = 0  # that were computed for them
        self.tiles, self.exact = 0, True
        self._tiles = self._plan()
        self._rows = self._computed = self._compute()
        if size is not None:
            self._rows = reduce_bands(self._computed, full, size, wrap=margin is not None)

    def __next__(self) -> Pixels:
        return next(self._rows)

    def close(self) -> None:
        """End the computation; the session is free for another picture."""
        self._rows.close()
        self._computed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plan(self) -> Sequence[Tile]:
        height, width, _ = self._source.shape
        tiles = self._cutting.plan(height, width, self._finished)
        self.tiles = self._windows + len(tiles)
        self.exact = self._cutting.exact or self.tiles == 1
        if not self.exact:
            log.warning(
                "%s computes every pixel from the whole picture: in tiles its result differs, and seams may show",
                self._session.metadata.model,
            )
        return tiles

    def _compute(self) -> Generator[Pixels, None, None]:
        passes = _Passes(self._source)
        while True:
            try:
                with closing(self._finish(passes)) as bands:
                    for band in bands:
                        yield from self._cropped(band)
                        del band  # or it would stay while the next one is computed
                return
            except OutOfDeviceMemory as error:
                self._cutting.shrink(self._tiles[0], error)
            except NonFiniteError as error:
                msg = f"{self._session.metadata.model} on {self._session.backend} gave {error}"
                raise InputError(msg, "its weights are damaged, or its precision does not hold its values") from error
            self._tiles = self._plan()

    def _finish(self, passes: "_Passes") -> Generator[Pixels, None, None]:
        """Compute the rows that are not handed over yet; yield those of each row of tiles."""
        done, total = self._windows * passes.count, self.tiles * passes.count
        self._report(done, total)
        band: Pixels | None = None
        with closing(self._results(passes.steps(self._tiles))) as results:
            for step, store in results:
                if step.first or band is None:
                    band = self._new_band(step.tile)
                    passes.fill_constant(band)
                _, columns = step.tile.place(self._scale)
                store(band[:, columns, step.channels])
                del store
                done += 1
                self._report(done, total)
                if step.last:
                    self._finished, self._windows = step.tile.rows.keep_stop, done // passes.count
                    whole, band = band, None
                    yield whole
                    del whole

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _new_band(self, tile: Tile) -> Pixels:
        rows, _ = tile.place(self._scale)
        if self._into is not None and self._padded is None:
            return self._into[rows]
        _, width, channels = self._source.shape
        return np.empty((rows.stop - rows.start, self._scale * width, channels), self.dtype)

    def _cropped(self, band: Pixels) -> Iterator[Pixels]:
        """Yield the part of a band, up to the rows that are finished, that the picture without padding has."""
        if self._padded is None:
            yield band
            return
        rows, columns = self._padded.inner
        scale, stop = self._scale, self._scale * self._finished
        top, bottom = max(scale * rows.start, stop - len(band)), min(scale * rows.stop, stop)
        if top < bottom:
            start = stop - len(band)
            inner = band[top - start : bottom - start, scale * columns.start : scale * columns.stop]
            if self._into is not None:
                self._into[top - scale * rows.start : bottom - scale * rows.start] = inner
            yield np.ascontiguousarray(inner)

    def _results(self, steps: Iterator[_Step]) -> Generator[tuple[_Step, Callable[[Pixels], None]], None, None]:
        """Run the network; yield each step with a function that stores the kept part of its result.

        Raises:
            NonFiniteError: by the function, if the network gives values that are not finite.
        """
        session, scale = self._session, self._scale
        if fills_pixels(session, self.dtype, self.shape[2]):
            batch: NDArray[np.float32] | None = None
            for step in steps:
                batch = to_batch(step.pixels, batch)
                yield step, partial(session.fill, batch, step.tile.kept(scale))
            return
        begun: deque[_Step] = deque()

        def batches() -> Iterator[NDArray[np.float32]]:
            for step in steps:
                begun.append(step)
                yield to_batch(step.pixels)

        with closing(session.run_many(batches())) as results:
            for result in results:
                step = begun.popleft()
                yield step, partial(store_batch, result[:, :, *step.tile.kept(scale)])


class _Passes:
    """The pictures of 1 or 3 channels, parts of a picture, that go through the network.

    Args:
        source: the picture.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._constant_alpha: Any = None
        self._parts: list[tuple[Callable[[int, int], Pixels], slice]] = [(source.read, slice(None))]
        if source.shape[2] in (2, 4):
            # Colours under transparent pixels are arbitrary, and a convolution would carry them into visible ones.
            colour = FilledColour(source)
            self._constant_alpha = colour.constant_alpha
            self._parts = [(colour.read, slice(None, -1))]
            if self._constant_alpha is None:
                self._parts.append((self._read_alpha, slice(-1, None)))

    @property
    def count(self) -> int:
        """Number of times that each window goes through the network."""
        return len(self._parts)

    def fill_constant(self, band: Pixels) -> None:
        """Fill the channel that does not go through the network, if there is one."""
        if self._constant_alpha is not None:
            band[..., -1] = self._constant_alpha

    def steps(self, tiles: Sequence[Tile]) -> Iterator[_Step]:
        """Yield the runs of the network, each with its pixels when it is asked for."""
        for rows, of_row in groupby(tiles, key=lambda tile: tile.rows):
            row = list(of_row)
            for part, (read, channels) in enumerate(self._parts):
                strip = read(rows.start, rows.stop)
                for column, tile in enumerate(row):
                    first, last = part == column == 0, (part, column) == (len(self._parts) - 1, len(row) - 1)
                    yield _Step(strip[:, tile.window[1]], tile, channels, first, last)

    def _read_alpha(self, top: int, bottom: int) -> Pixels:
        return self._source.read(top, bottom)[..., -1:]
