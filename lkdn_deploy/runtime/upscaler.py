"""Upscales images of any common kind with a network that knows only RGB in 0..1."""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, NonFiniteError, OutOfDeviceMemory, UsageError
from lkdn_deploy.core.limits import available_memory, cores
from lkdn_deploy.core.protocols import PixelSession, Session
from lkdn_deploy.imaging.alpha import fill_transparent
from lkdn_deploy.imaging.pixels import Pixels, check_pixels, store_batch, to_batch
from lkdn_deploy.imaging.tiles import Tile, choose_window, plan_tiles, smallest_window, tile_halo

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of finished tiles and of all tiles: with none finished at the start, then after each."""


@dataclass(frozen=True, slots=True, eq=False)
class TiledResult:
    """An upscaled image and how it was computed.

    Attributes:
        pixels: (scale * H, scale * W, C), of the type of the image.
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

_Step = tuple[Pixels, Pixels, Tile]
"""The image that a window is cut from, the part of the result that it belongs to, and the tile."""

SMALLEST_WINDOW = 64
"""Side of the smallest window to try, in LR pixels, when a device runs out of memory."""


class Upscaler:
    """Upscales images by ``scale``; call it with an image. As a context manager, it closes its session at the end.

    Only tiles go through the network, as many at once as the session takes; image and result stay in host memory. Each
    tile is read with a halo that makes its result equal to that of the whole image. A network with global attention has
    no such halo: it processes the whole image, unless ``tile`` is given; tiles then change the result, and the log
    warns of it. When a device runs out of memory, the tiles are made smaller from then on, and the log says so.

    Args:
        session: the opened network.
        tile: side of a tile in LR pixels, without its halo; default: as large as the memory budget allows.
        memory_budget: bytes that the network may take for a tile; default 832 MiB, or half of the free memory if less.
        threads: CPU threads for writing files; default: all cores.

    Raises:
        UsageError: if an argument is out of range, or ``tile`` is given for an artefact of a fixed size.
    """

    def __init__(
        self,
        session: Session,
        *,
        tile: int | None = None,
        memory_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value in (("tile", tile), ("memory_budget", memory_budget), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                msg = f"{name} must be a whole number of 1 or more, got {value!r}"
                raise UsageError(msg)
        if tile is not None and session.fixed_size is not None:
            msg = "the tile size cannot be chosen: the artefact takes {1}x{0} pixels only".format(*session.fixed_size)
            raise UsageError(msg, "export it without --static")
        self.session = session
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

    def upscale(self, pixels: Pixels, *, progress: Progress | None = None) -> TiledResult:
        """Upscale pixels, and report how they were computed.

        Args:
            pixels: (H, W, C) of uint8, uint16, or float32 in 0..1; C is 1 grey, 2 grey and alpha, 3 RGB or 4 RGBA.
            progress: called before the first tile and after each; again from the start if smaller tiles are needed.

        Raises:
            UsageError: if the artefact cannot process an image of this size.
            InputError: if the engine fails, or gives values that are not finite.
            OutOfDeviceMemory: if the device has no memory for the smallest tiles.
        """
        height, width, channels = pixels.shape
        scale, smallest = self.scale, self.session.metadata.smallest
        if min(height, width) < smallest:
            # Repeating the edge on all sides changes least, and keeps the network's own padding away from the image.
            lacking = [max(smallest - size, 0) for size in (height, width)]
            margins = [(lack - lack // 2, lack // 2) for lack in lacking]
            padded = self.upscale(np.pad(pixels, (*margins, (0, 0)), mode="edge"), progress=progress)
            (top, _), (left, _) = margins
            inner = np.s_[scale * top : scale * (top + height), scale * left : scale * (left + width)]
            return replace(padded, pixels=np.ascontiguousarray(padded.pixels[inner]))
        result = np.empty((scale * height, scale * width, channels), pixels.dtype)
        while True:
            tiles = self.plan(height, width)
            exact = self.exact or len(tiles) == 1
            if not exact:
                log.warning(
                    "%s computes every pixel from the whole picture: in tiles its result differs, and seams may show",
                    self.session.metadata.model,
                )
            try:
                self._fill_all(result, pixels, tiles, progress)
                return TiledResult(result, len(tiles), exact)
            except OutOfDeviceMemory as error:
                self._shrink(tiles[0], error)

    def _fill_all(self, result: Pixels, pixels: Pixels, tiles: Sequence[Tile], progress: Progress | None) -> None:
        steps = [(source, large, tile) for source, large in self._passes(pixels, result) for tile in tiles]
        if progress:
            progress(0, len(steps))
        try:
            with closing(self._fill(steps)) as filled:
                for done in filled:
                    if progress:
                        progress(done, len(steps))
        except NonFiniteError as error:
            msg = f"{self.session.metadata.model} on {self.session.backend} gave {error}"
            raise InputError(msg, "its weights are damaged, or its precision does not hold its values") from error

    def _fill(self, steps: Sequence[_Step]) -> Generator[int, None, None]:
        """Compute each step's part of the result, and yield the number of finished steps.

        Raises:
            NonFiniteError: if the network gives values that are not finite.
        """
        session, scale = self.session, self.scale
        picture = steps[0][1]
        colours = picture.dtype == np.uint8 and picture.shape[2] == 3
        if colours and picture.strides[1:] == (3, 1) and isinstance(session, PixelSession):
            batch = None
            for done, (source, large, tile) in enumerate(steps, 1):
                batch = to_batch(source[tile.window], batch)
                session.fill(batch, tile.kept(scale), large[tile.place(scale)])
                yield done
            return
        with closing(session.run_many(_batches(steps))) as batches:
            for done, (batch, (_, large, tile)) in enumerate(zip(batches, steps, strict=True), 1):
                store_batch(batch[:, :, *tile.kept(scale)], large[tile.place(scale)])
                yield done

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

    @staticmethod
    def _passes(pixels: Pixels, result: Pixels) -> list[tuple[Pixels, Pixels]]:
        """Return the images of 1 or 3 channels that go through the network, and the parts of ``result`` they fill."""
        if pixels.shape[2] in (1, 3):
            return [(pixels, result)]
        alpha = pixels[:, :, -1]
        # Colours under fully transparent pixels are arbitrary, and a convolution would carry them into visible pixels.
        colour = (fill_transparent(pixels[:, :, :-1], alpha), result[:, :, :-1])
        if (alpha == alpha[0, 0]).all():
            result[:, :, -1] = alpha[0, 0]
            return [colour]
        return [colour, (pixels[:, :, -1:], result[:, :, -1:])]

    def check_size(self, height: int, width: int) -> None:
        """Refuse an image size that the network cannot process, before the image is decoded.

        Raises:
            UsageError: if the network takes one size only, which does not fit into the image, or if it must process
                the whole image, which does not fit into memory.
        """
        height, width = self._padded(height, width)
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
        self.check_size(height, width)
        height, width = self._padded(height, width)
        if self._whole_only:
            return plan_tiles(height, width, (height, width), 0)
        try:
            return plan_tiles(height, width, self.session.fixed_size or self._window(height, width), self._halo)
        except ValueError as error:
            msg = f"an image of {width}x{height} cannot be cut for this artefact: {error}"
            raise UsageError(msg, "export it without --static, or for a larger size") from error

    @property
    def _whole_only(self) -> bool:
        """Whether the image must not be cut: tiles would not be exact, and were not asked for."""
        return not self.exact and self._tile is None

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        smallest = self.session.metadata.smallest
        return max(height, smallest), max(width, smallest)

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

    def _window(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the cheapest window that fits into memory and that the session takes.

        Raises:
            ValueError: if the largest window has no room beside its halo.
        """
        if self._tile is not None:
            return self._asked_for(self._tile, self.session.largest or (height, width))
        budget = self._memory_budget or min(MEMORY_BUDGET, available_memory() // 2)
        if self._fitting is not None:
            budget = min(budget, self._fitting * self.session.bytes_per_pixel())
        least, largest = self._least_side, self.session.largest
        cost = self.session.window_bytes
        return choose_window(height, width, self._halo, budget, least=least, largest=largest, cost=cost)

    def _asked_for(self, tile: int, largest: tuple[int, int]) -> tuple[int, int]:
        """Return the window of a tile of ``tile`` pixels a side, or a smaller one if device or session need it."""
        side = tile + 2 * self._halo
        if self._fitting is not None:
            side = min(side, max(math.isqrt(self._fitting), self._least_side))
        side = max(side, self.session.metadata.smallest)
        return min(side, largest[0]), min(side, largest[1])

    @property
    def _halo(self) -> int:
        return tile_halo(self.session.metadata.receptive_radius)

    @property
    def _least_side(self) -> int:
        """The smallest side of a window that is made smaller for want of memory."""
        return max(smallest_window(self._halo), SMALLEST_WINDOW, self.session.metadata.smallest)


def _batches(steps: Sequence[_Step]) -> Iterator[NDArray[np.float32]]:
    """Yield the network's inputs, each made when it is asked for."""
    for source, _, tile in steps:
        yield to_batch(source[tile.window])
