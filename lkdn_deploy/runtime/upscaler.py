"""Upscales images of any common kind with a network that knows only RGB in 0..1."""

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import OutOfDeviceMemory, UsageError
from lkdn_deploy.core.limits import available_memory, cores
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.imaging.bands import ArrayRows, RowSource
from lkdn_deploy.imaging.pixels import Pixels, check_pixels
from lkdn_deploy.imaging.resize import OutputSize
from lkdn_deploy.imaging.tiles import Tile, choose_window, plan_tiles, smallest_window, tile_halo
from lkdn_deploy.runtime.tiling import Cutting, Progress, Room, UpscaledRows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from PIL.Image import Image

    from lkdn_deploy.runtime.mapping import MappedFile, StrPath

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TiledResult:
    """An upscaled image and how it was computed.

    Attributes:
        pixels: (H, W, C) in the size of the result, of the type of the image.
        tiles: number of windows that the image was cut into.
        exact: whether the result equals that of the whole image.
    """

    pixels: Pixels
    tiles: int
    exact: bool


P = TypeVar("P", NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32])

# A larger tile takes more memory, and wastes less on its halo. Of an image of 2000x1500, LKDN-S x4 then computes
# 1.2 times the pixels on the native engine and 1.5 times on ONNX Runtime, and the whole process, with the
# result of 144 MB, stays below 1.2 GB (benchmarks/upscale.py).
MEMORY_BUDGET = 832 << 20

SMALLEST_WINDOW = 64
"""Side of the smallest window to try, in LR pixels, when a device runs out of memory."""


class Upscaler:
    """Upscales images by the network's ``scale``, or to ``size``; call it with an image.

    As a context manager, it closes its session at the end.

    Only tiles go through the network, as many at once as the session takes; image and result stay in host memory. Each
    tile is read with a halo that makes its result equal to that of the whole image. A network with global attention has
    no such halo: it processes the whole image, unless ``tile`` is given; tiles then change the result, and the log
    warns of it. When a device runs out of memory, the tiles are made smaller from then on, and the log says so.

    Args:
        session: the opened network.
        tile: side of a tile in LR pixels, without its halo; default: as large as the memory budget allows.
        memory_budget: bytes that the network may take for a tile; default 832 MiB, or half of the free memory if less.
        threads: CPU threads for writing files; default: all cores.
        size: size of results, to which the network's are reduced by ``reduce_bands``; default: ``scale`` times that of
            the picture.
        wrap: whether pictures are textures that tile: what surrounds them is their opposite edge, and so results tile.

    Raises:
        UsageError: if an argument is out of range, if ``tile`` is given for an artefact of a fixed size, or ``wrap``
            for a network that computes every pixel from the whole picture.
    """

    def __init__(
        self,
        session: Session,
        *,
        tile: int | None = None,
        memory_budget: int | None = None,
        threads: int | None = None,
        size: OutputSize | None = None,
        wrap: bool = False,
    ) -> None:
        for name, value in (("tile", tile), ("memory_budget", memory_budget), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                msg = f"{name} must be a whole number of 1 or more, got {value!r}"
                raise UsageError(msg)
        if tile is not None and session.fixed_size is not None:
            msg = "the tile size cannot be chosen: the artefact takes {1}x{0} pixels only".format(*session.fixed_size)
            raise UsageError(msg, "export it without --static")
        if wrap and session.metadata.receptive_radius is None:
            msg = f"{session.metadata.model} computes every pixel from the whole picture, so no margin makes it tile"
            raise UsageError(msg, "use a network without attention over the whole picture, such as lkdn-s")
        if wrap and session.metadata.size_multiple > 1:
            msg = f"{session.metadata.model} takes sides that are multiples of {session.metadata.size_multiple} only"
            raise UsageError(msg, "such a network cannot be used for textures; use another one, such as lkdn-s")
        self.session = session
        self.size, self.wrap = size, wrap
        self.scale = session.metadata.scale
        self.threads = threads or cores()
        self._tile = tile
        self._memory_budget = memory_budget
        self._fitting: int | None = None
        """The most pixels of a window, after the device had no memory for a larger one."""

    def __repr__(self) -> str:
        metadata = self.session.metadata
        return f"<Upscaler: {metadata.model} x{metadata.scale} on {self.session.backend}>"

    def close(self) -> None:
        """Close the session, which frees the engine's memory and threads; the upscaler cannot be used again.

        Raises:
            DeviceError: if a GPU fails; nothing is left nevertheless.
        """
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def __call__(self, image: "Image", *, progress: Progress | None = None) -> "Image": ...
    @overload
    def __call__(self, image: P, *, progress: Progress | None = None) -> P: ...

    def __call__(self, image: "Image | Pixels", *, progress: Progress | None = None) -> "Image | Pixels":
        """Upscale a PIL image, or an array (H, W) or (H, W, C) of uint8, uint16, or float32 in 0..1.

        Channels are grey, grey and alpha, RGB, or RGB and alpha (straight). The result is of the same kind: an array of
        the same type and channels, or an upright PIL image of the same mode (palettes become RGB or RGBA, colour keys
        become alpha, 1-bit becomes L, other colour spaces become RGB).

        Raises:
            UsageError: if it is neither, or an array of another shape, type or range, or as ``upscale`` does.
            InputError: if the engine fails, or a PIL image holds floats or 32-bit integers.
        """
        if not isinstance(image, np.ndarray):
            from PIL.Image import Image

            from lkdn_deploy.imaging.files.pillow import from_pil, to_pil

            if not isinstance(image, Image):
                msg = f"expected a PIL image or a numpy array, got {type(image).__name__}"
                raise UsageError(msg, "open a file with PIL.Image.open")
            picture = from_pil(image)
            return to_pil(picture.with_pixels(self.upscale(picture.pixels, progress=progress).pixels))
        image = np.asarray(image)  # a matrix, or a masked array, as its plain values
        if image.ndim == 2:
            return self.upscale(check_pixels(image[:, :, None]), progress=progress).pixels[:, :, 0]
        return self.upscale(check_pixels(image), progress=progress).pixels

    def for_picture(self, _: Path) -> Self:
        """Return the upscaler itself, which serves every picture, as one of ``Upscalers`` serves some."""
        return self

    def map(self, paths: "Iterable[StrPath]") -> "Generator[MappedFile, None, None]":
        """Upscale image files, and yield what becomes of each, in order, as soon as it is there.

        The next file is read while one is in the network. A file that fails does not affect the others: its error is
        in its ``MappedFile``, and is raised where its result is asked for.

        Args:
            paths: the files; they are taken one by one, one ahead.
        """
        from lkdn_deploy.runtime.mapping import map_files

        return map_files(self, paths)

    def upscale(self, pixels: Pixels, *, progress: Progress | None = None) -> TiledResult:
        """Upscale pixels, and report how they were computed.

        Args:
            pixels: (H, W, C) of uint8, uint16, or float32 in 0..1; C is 1 grey, 2 grey and alpha, 3 RGB or 4 RGBA.
            progress: called before the first tile and after each. The number of all grows if smaller ones are needed.

        Raises:
            UsageError: if the artefact cannot process an image of this size.
            InputError: if the engine fails, or gives values that are not finite.
            OutOfDeviceMemory: if the device has no memory for the smallest tiles.
        """
        height, width, channels = pixels.shape
        result = np.empty((*self.result_size(height, width), channels), pixels.dtype)
        done = 0
        with self._rows(ArrayRows(pixels), progress, into=None if self.size else result) as rows:
            for band in rows:
                if self.size:
                    result[done : done + len(band)] = band
                done += len(band)
        return TiledResult(result, rows.tiles, rows.exact)

    def bands(
        self, source: Pixels | RowSource, *, progress: Progress | None = None, room: Room | None = None
    ) -> UpscaledRows:
        """Upscale a picture, and give the rows of the result as they are finished.

        The result is never in memory as a whole, and neither is the picture if it is a ``RowSource``. The rows are
        those of ``upscale``.

        Args:
            source: pixels as ``upscale`` takes them, or a picture whose rows can be read in parts.
            progress: as in ``upscale``.
            room: memory for it; default: as for ``upscale``, and bands of whatever height that gives.

        Returns:
            An iterator of bands, each as wide as the result, which must be exhausted or closed.

        Raises:
            UsageError: if the artefact cannot process an image of this size.
        """
        return self._rows(ArrayRows(source) if isinstance(source, np.ndarray) else source, progress, room=room)

    def _rows(
        self, source: RowSource, progress: Progress | None, *, into: Pixels | None = None, room: Room | None = None
    ) -> UpscaledRows:
        height, width, _ = source.shape
        size = self.result_size(height, width) if self.size else None
        margin = self._margin(height, width) if self.wrap else None
        cutting = Cutting(partial(self._plan_from, room), self._shrink, self.exact, self.padded)
        return UpscaledRows(self.session, source, cutting, size=size, margin=margin, progress=progress, into=into)

    def room_taken(self, height: int, width: int, room: Room) -> tuple[int, int]:
        """Return the bytes that ``bands`` takes for an image of this size: more than ``room`` if it is too small.

        Returns:
            Those of the network's window, and those of the rows beside it.

        Raises:
            UsageError: as ``plan`` does.
        """
        self.result_size(height, width)
        height, width = self.padded(*self._surrounded(height, width))
        first = self._plan_from(room, height, width, 0)[0]
        rows, columns = (span.stop - span.start for span in (first.rows, first.columns))
        kept = first.rows.keep_stop - first.rows.keep_start
        return self.session.window_bytes(rows, columns), room.beside(rows, columns, kept, whole=kept == height)

    def result_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the result for a picture of this size.

        Raises:
            UsageError: if ``size`` cannot be had of such a picture, or not with a network of this scale.
        """
        if self.size is None:
            return self.scale * height, self.scale * width
        self.size.network_scale(width, height, (self.scale,))
        columns, rows = self.size.of(width, height)
        return rows, columns

    def _shrink(self, tile: Tile, error: OutOfDeviceMemory) -> None:
        """Halve the windows in both directions, for this image and later ones.

        Raises:
            OutOfDeviceMemory: if the windows cannot be smaller.
        """
        rows, columns = tile.window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        metadata = self.session.metadata
        msg = f"the device has no memory for a window of {width}x{height} pixels"
        hint = "close other programs that use the device, or use --backend ort-cpu"
        if not self.exact and self._tile is None:
            msg += f", and {metadata.model} must process the whole image"
            hint = "use --backend ort-cpu, or tiles (--tile 256), which give another result"
        elif self.session.fixed_size is not None:
            msg += ", and the artefact takes no other"
        elif max(height, width) > self._least_side:
            self._fitting = height * width // 4
            side = max(math.isqrt(self._fitting), self._least_side)
            log.warning("%s: trying windows of %d pixels a side, or of the same area (%s)", msg, side, error.message)
            return
        msg += f": {error.message}"
        raise OutOfDeviceMemory(msg, hint) from error

    @property
    def exact(self) -> bool:
        """Whether tiles give the same result as the whole image."""
        return self.session.metadata.receptive_radius is not None

    def check_size(self, height: int, width: int) -> None:
        """Refuse an image size that the network cannot process, before the image is decoded.

        Raises:
            UsageError: if the network takes one size only, which does not fit into the image, if it must process the
                whole image, which does not fit into memory, or as ``result_size`` does.
        """
        self.result_size(height, width)
        self._check_input(*self._surrounded(height, width))

    def _check_input(self, height: int, width: int) -> None:
        """Refuse a size of what goes into the network, padding and margins included."""
        height, width = self.padded(height, width)
        window = self.session.fixed_size
        if self._whole_only:
            self._check_whole(height, width)
        elif window is not None and (height < window[0] or width < window[1]):
            msg = "this artefact takes {1}x{0} pixels, the image has {3}x{2}".format(*window, height, width)
            raise UsageError(msg, "export it without --static")

    def plan(self, height: int, width: int) -> list[Tile]:
        """Return the tiles that an image of this size is cut into, after its edge is repeated where it is too small.

        Raises:
            UsageError: as ``check_size`` does, or if the image cannot be cut into windows of the network's fixed size.
        """
        self.result_size(height, width)
        return self._plan_from(None, *self._surrounded(height, width), 0)

    def _plan_from(self, room: Room | None, height: int, width: int, begin: int) -> list[Tile]:
        """Return the tiles that the rows of an image, with its margins, from ``begin`` on are computed in."""
        self._check_input(height, width)
        height, width = self.padded(height, width)
        if self._whole_only:
            return plan_tiles(height, width, (height, width), 0)
        window = self.session.fixed_size
        try:
            step = math.lcm(self.session.window_step, self.session.metadata.size_multiple)
            window = window or self._window(height, width, room)
            return plan_tiles(height, width, window, self._halo, begin, step if self.session.window_step > 1 else 1)
        except ValueError as error:
            msg = f"an image of {width}x{height} cannot be cut for this artefact: {error}"
            raise UsageError(msg, "export it without --static, or for a larger size") from error

    @property
    def _whole_only(self) -> bool:
        """Whether the image must not be cut: tiles would not be exact, and were not asked for."""
        return not self.exact and self._tile is None

    def _margin(self, height: int, width: int) -> int:
        """Return the margin of the opposite edge that a picture that tiles gets on each side."""
        lacking = self.session.metadata.smallest - min(height, width)
        return max(self._halo, -(-lacking // 2))

    def _surrounded(self, height: int, width: int) -> tuple[int, int]:
        margin = self._margin(height, width) if self.wrap else 0
        return height + 2 * margin, width + 2 * margin

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to which the edge of an image of this size is repeated, so that the network takes it."""
        smallest = self.session.metadata.smallest
        return self._multiple_of(max(height, smallest)), self._multiple_of(max(width, smallest))

    def _multiple_of(self, side: int) -> int:
        """Return a side, or the next larger one that the network takes."""
        multiple = self.session.metadata.size_multiple
        return -(-side // multiple) * multiple

    def _check_whole(self, height: int, width: int) -> None:
        """Refuse an image that cannot be processed in one window."""
        model, window = self.session.metadata.model, self.session.fixed_size
        largest = window or self.session.largest or (height, width)
        if window not in (None, (height, width)) or height > largest[0] or width > largest[1]:
            msg = "{} must process the whole image of {}x{}, but this artefact takes {}x{}".format(
                model, width, height, *reversed(largest)
            )
            raise UsageError(msg, "export it without --static")
        need = self.session.window_bytes(height, width)
        # Some engines took half as much again as was estimated.
        free = self._memory_budget or available_memory() * 2 // 3
        if need > free:
            msg = f"{model} must process the whole image of {width}x{height} at once"
            msg += f", which needs {need >> 20} MiB of {free >> 20} MiB"
            way_out = "use tiles (--tile 256), which give another result, or " if window is None else "use "
            raise UsageError(msg, f"{way_out}a network without attention over the whole picture, such as lkdn")

    def _window(self, height: int, width: int, room: Room | None) -> tuple[int, int]:
        """Return the height and width of the cheapest window that fits into memory and that the session takes.

        Raises:
            ValueError: if the largest window has no room beside its halo.
        """
        if self._tile is not None:
            return self._asked_for(self._tile, self.session.largest or (height, width))
        budget, cost = self._memory_budget or min(MEMORY_BUDGET, available_memory() // 2), self.session.window_bytes
        if room is not None and self._memory_budget is None:
            budget, cost = room.budget, partial(self._bytes_in, room, height)
        if self._fitting is not None:
            budget = min(budget, self._fitting * self.session.bytes_per_pixel())
        least, largest = self._least_side, self.session.largest
        window = choose_window(height, width, self._halo, budget, least=least, largest=largest, cost=cost)
        return self._whole_multiples(*window)

    def _whole_multiples(self, height: int, width: int) -> tuple[int, int]:
        """Return the next smaller sides of a window that the network takes."""
        multiple = self.session.metadata.size_multiple
        return height // multiple * multiple, width // multiple * multiple

    def _bytes_in(self, room: Room, height: int, rows: int, columns: int) -> int:
        """Return the bytes of windows of this size with the rows that belong to them."""
        whole = rows >= height
        kept = rows if whole else rows - self._halo  # the first band and the last; others have a halo less
        return self.session.window_bytes(rows, columns) + room.beside(rows, columns, kept, whole=whole)

    def _asked_for(self, tile: int, largest: tuple[int, int]) -> tuple[int, int]:
        """Return the window of a tile of ``tile`` pixels a side, or a smaller one if device or session need it."""
        side = tile + 2 * self._halo
        if self._fitting is not None:
            side = min(side, max(math.isqrt(self._fitting), self._least_side))
        side = self._multiple_of(max(side, self.session.metadata.smallest))
        return self._whole_multiples(min(side, largest[0]), min(side, largest[1]))

    @property
    def _halo(self) -> int:
        return self._multiple_of(max(tile_halo(self.session.metadata.receptive_radius), self.session.window_halo))

    @property
    def _least_side(self) -> int:
        """The smallest side of a window that is made smaller for want of memory."""
        return self._multiple_of(max(smallest_window(self._halo), SMALLEST_WINDOW, self.session.metadata.smallest))
