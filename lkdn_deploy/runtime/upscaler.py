"""The upscaler: images of any common kind through a network that knows only RGB in 0..1."""

import logging
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
import psutil
from numpy.typing import NDArray

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError, NonFiniteError, OutOfDeviceMemory, UsageError
from lkdn_deploy.core.protocols import PixelSession, Session
from lkdn_deploy.core.threads import cores
from lkdn_deploy.imaging.alpha import fill_transparent
from lkdn_deploy.imaging.pixels import Pixels, check_pixels, store_batch, to_batch
from lkdn_deploy.imaging.tiles import Tile, choose_window, plan_tiles, smallest_window, tile_halo
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, resolve
from lkdn_deploy.runtime.forms import form_for

if TYPE_CHECKING:
    from PIL.Image import Image

    from lkdn_deploy.imaging.files.picture import Picture

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called after each tile with the number done and the number of all."""

P = TypeVar("P", NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32])

# A network's memory grows with the tile, its waste on halos shrinks with it. Of an image of 2000x1500, LKDN-S x4 then
# computes 1.2 times the pixels on the native engine and 1.5 times on ONNX Runtime, and the whole process, with the
# result of 144 MB, stays below 1.2 GB (benchmarks/upscale.py).
MEMORY_BUDGET = 832 << 20

_Step = tuple[Pixels, Pixels, Tile]
"""What a window is cut from, the part of the result that it belongs to, and the window."""

# A device that has no memory for this many pixels a side has none for less.
SMALLEST_WINDOW = 64

MAX_THREADS = 256  # engines start as many as they are told, and thousands take the machine down


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    scale: int | None = None,
    *,
    backend: str = "auto",
    tile: int | None = None,
    threads: int | None = None,
    memory_budget: int | None = None,
) -> "Upscaler":
    """Open a bundled model by name, or an ``.onnx`` file made by ``lkdn-export``.

    Args:
        model: name of a bundled model, or path of an artefact.
        scale: 2, 3 or 4; default 4, or what the artefact has.
        backend: a name of ``lkdn_deploy.backends.registry.BACKENDS``.
        tile, memory_budget: see ``Upscaler``.
        threads: CPU threads of the engine, at most 256; default is its own choice. And see ``Upscaler``.

    Raises:
        MissingError: if the model is not bundled, or the backend's package or device is not there.
        UsageError: if an option is wrong, or the artefact's scale is not the one asked for.
        InputError: if the file is no artefact.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        msg = f"threads must be between 1 and {MAX_THREADS}, got {threads}"
        raise UsageError(msg, "more threads than the machine has cores make it slower")
    session = open_session(resolve(os.fspath(model), scale), backend, threads=threads, form=form_for)
    if scale is not None and session.metadata.scale != scale:
        msg = f"x{scale} was asked for, but {os.fspath(model)} upscales x{session.metadata.scale}"
        raise UsageError(msg)
    return Upscaler(session, tile=tile, memory_budget=memory_budget, threads=threads)


class Upscaler:
    """Upscale images by ``scale``; call it with an image.

    The image and the result stay in host memory as they are; only tiles go through the network, as many at once as the
    session takes. Tiles are read with the halo that makes their result equal to the whole image's. A network by which
    every pixel depends on the whole image has no such halo: it is given the whole image, unless ``tile`` is set; if
    that makes more than one, the log has a warning that the result is another. A device that runs out of memory is
    given smaller tiles from then on, and the log says so.

    Args:
        session: the network.
        tile: useful LR pixels of a tile's side, its halo comes on top; default: as large as the budget allows.
        memory_budget: bytes that the network may take for a tile, default 832 MiB or half of what is free, if less.
        threads: CPU threads that write files, beside those of the session; default: all cores.
    """

    def __init__(
        self,
        session: Session,
        *,
        tile: int | None = None,
        memory_budget: int | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value in (("tile", tile), ("memory_budget", memory_budget)):
            if value is not None and value < 1:
                msg = f"{name} must be 1 or more, got {value}"
                raise UsageError(msg)
        if tile is not None and session.fixed_size is not None:
            msg = "tile cannot be chosen: the artefact takes {}x{} pixels only".format(*session.fixed_size)
            raise UsageError(msg, "export it without --static")
        self.session = session
        self.scale = session.metadata.scale
        self.threads = threads or cores()
        self._tile = tile
        self._memory_budget = memory_budget
        self._fitting: int | None = None
        """The most pixels of a window that the device may have memory for, once it had not for a larger one."""

    @overload
    def __call__(self, image: "Image", *, progress: Progress | None = None) -> "Image": ...
    @overload
    def __call__(self, image: P, *, progress: Progress | None = None) -> P: ...

    def __call__(self, image: "Image | Pixels", *, progress: Progress | None = None) -> "Image | Pixels":
        """Upscale a PIL image, or an array (H, W) or (H, W, C) of uint8, uint16, or float32 in 0..1.

        Channels are grey, grey and alpha, RGB, or RGB and alpha (straight). What comes back is of the same kind:
        an array of the same type and channels, or a PIL image, upright, of the same mode (palettes become RGB or RGBA,
        colour keys become alpha, 1-bit becomes L, other colour spaces become RGB).

        Raises:
            UsageError: if it is neither, or an array of another shape, type or range, or of a size that a network of a
                fixed size cannot do.
            InputError: if the engine fails, or a PIL image holds floats or 32-bit integers.
        """
        if not isinstance(image, np.ndarray):
            from PIL.Image import Image

            from lkdn_deploy.imaging.files.pillow import from_pil, to_pil

            if not isinstance(image, Image):
                msg = f"expected a PIL image or a numpy array, got {type(image).__name__}"
                raise UsageError(msg, "open a file with PIL.Image.open")
            return to_pil(self.upscale_picture(from_pil(image), progress=progress))
        if image.ndim == 2:
            return self._upscale(check_pixels(image[:, :, None]), progress)[:, :, 0]
        return self._upscale(check_pixels(image), progress)

    def upscale_picture(self, picture: "Picture", *, progress: Progress | None = None) -> "Picture":
        """Upscale what ``imaging.files`` reads and writes; profile, EXIF and resolution stay.

        Raises:
            InputError: if the engine fails.
        """
        return picture.with_pixels(self._upscale(picture.pixels, progress))

    def _upscale(self, pixels: Pixels, progress: Progress | None) -> Pixels:
        """(H, W, C) -> (scale * H, scale * W, C)."""
        height, width, channels = pixels.shape
        scale, smallest = self.scale, self.session.metadata.smallest
        if min(height, width) < smallest:
            # More of the same all around changes least, and the network's own padding stays away from the image.
            lacking = [max(smallest - size, 0) for size in (height, width)]
            margins = [(lack - lack // 2, lack // 2) for lack in lacking]
            padded = np.pad(pixels, (*margins, (0, 0)), mode="edge")
            (top, _), (left, _) = margins
            inner = np.s_[scale * top : scale * (top + height), scale * left : scale * (left + width)]
            return np.ascontiguousarray(self._upscale(padded, progress)[inner])
        result = np.empty((scale * height, scale * width, channels), pixels.dtype)
        while not self._filled(result, pixels, progress):
            pass
        return result

    def _filled(self, result: Pixels, pixels: Pixels, progress: Progress | None) -> bool:
        """Fill ``result``, or plan smaller windows for another try."""
        tiles = self.plan(*pixels.shape[:2])
        if len(tiles) > 1 and not self.exact:
            log.warning(
                "%s weighs every pixel by the whole picture: in tiles the result is another one, and seams may show",
                self.session.metadata.model,
            )
        steps = [(source, large, tile) for source, large in self._passes(pixels, result) for tile in tiles]
        try:
            with closing(self._fill(steps)) as filled:
                for done in filled:
                    if progress:
                        progress(done, len(steps))
        except OutOfDeviceMemory as error:
            self._shrink(tiles[0], error)
            return False
        except NonFiniteError as error:
            msg = f"{self.session.metadata.model} on {self.session.backend} gave {error}"
            raise InputError(msg, "its weights are damaged, or its precision does not hold its values") from error
        return True

    def _fill(self, steps: Sequence[_Step]) -> Generator[int, None, None]:
        """Each step's part of the picture; gives how many are done.

        Raises:
            NonFiniteError: if the network gives what is none.
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
        """Halve the windows both ways, for this image and those that come.

        Raises:
            OutOfDeviceMemory: if they cannot be smaller.
        """
        rows, columns = tile.window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        metadata = self.session.metadata
        msg = f"the device has no memory for a window of {height}x{width} pixels"
        hint = "end what else is on it, or use --backend ort-cpu"
        if not self.exact and self._tile is None:
            msg += f", and {metadata.model} must see the whole image"
            hint = "use --backend ort-cpu, or tiles (--tile 256), whose result is another one"
        elif self.session.fixed_size is not None:
            msg += ", and the artefact takes no other"
        elif max(height, width) > self._least_side:
            self._fitting = height * width // 4
            side = max(math.isqrt(self._fitting), self._least_side)
            log.warning("%s: trying %d a side, or as many in another shape (%s)", msg, side, error.message)
            return
        msg += f": {error.message}"
        raise OutOfDeviceMemory(msg, hint) from error

    @property
    def exact(self) -> bool:
        """Whether tiles give the whole image's result."""
        return self.session.metadata.receptive_radius is not None

    @staticmethod
    def _passes(pixels: Pixels, result: Pixels) -> list[tuple[Pixels, Pixels]]:
        """What goes through the network, of 1 or 3 channels, and the part of ``result`` that it fills."""
        if pixels.shape[2] in (1, 3):
            return [(pixels, result)]
        alpha = pixels[:, :, -1]
        # What lies under fully transparent pixels is arbitrary, and a convolution would carry it into visible ones.
        colour = (fill_transparent(pixels[:, :, :-1], alpha), result[:, :, :-1])
        if (alpha == alpha[0, 0]).all():
            result[:, :, -1] = alpha[0, 0]
            return [colour]
        return [colour, (pixels[:, :, -1:], result[:, :, -1:])]

    def plan(self, height: int, width: int) -> list[Tile]:
        """The tiles that an image of this size is cut into, with its edge repeated where it is too small.

        Raises:
            UsageError: if the network takes one size only, and this image cannot be cut into it; or if it must see the
                whole image, which does not fit into memory.
        """
        height, width = (max(size, self.session.metadata.smallest) for size in (height, width))
        window = self.session.fixed_size
        if not self.exact and self._tile is None:
            return [self._whole(height, width)]
        if window is not None and (height < window[0] or width < window[1]):
            msg = f"this artefact takes {window[0]}x{window[1]} pixels (height x width), the image has {height}x{width}"
            raise UsageError(msg, "export it without --static")
        try:
            return plan_tiles(height, width, window or self._window(height, width), self._halo)
        except ValueError as error:
            msg = f"an image of {height}x{width} cannot be cut for this artefact: {error}"
            raise UsageError(msg, "export it without --static, or for a larger size") from error

    def _whole(self, height: int, width: int) -> Tile:
        """The one window of a network that must see the whole image."""
        model, window = self.session.metadata.model, self.session.fixed_size
        largest = window or self.session.largest or (height, width)
        if window not in (None, (height, width)) or height > largest[0] or width > largest[1]:
            msg = "{} must see the whole image of {}x{}, this artefact takes {}x{}".format(
                model, height, width, *largest
            )
            raise UsageError(msg, "export it without --static")
        need = height * width * self.session.bytes_per_pixel()
        # Some engines took half as much again as was estimated.
        free = self._memory_budget or psutil.virtual_memory().available * 2 // 3
        if need > free:
            msg = f"{model} must see the whole image of {height}x{width} at once: {need >> 20} MiB of {free >> 20} MiB"
            way_out = "use tiles (--tile 256), whose result is another one, or " if window is None else "use "
            raise UsageError(msg, f"{way_out}a network without attention over the whole picture, such as lkdn")
        (tile,) = plan_tiles(height, width, (height, width), 0)
        return tile

    def _window(self, height: int, width: int) -> tuple[int, int]:
        """The one that costs least of those that fit into memory and that the session takes.

        Raises:
            ValueError: if the session takes nothing but halo.
        """
        if self._tile is not None:
            return self._asked_for(self._tile, self.session.largest or (height, width))
        budget = self._memory_budget or min(MEMORY_BUDGET, psutil.virtual_memory().available // 2)
        pixels = budget // self.session.bytes_per_pixel()
        if self._fitting is not None:
            pixels = min(pixels, self._fitting)
        return choose_window(height, width, self._halo, pixels, least=self._least_side, largest=self.session.largest)

    def _asked_for(self, tile: int, largest: tuple[int, int]) -> tuple[int, int]:
        """The square of ``tile`` useful pixels a side, as far as device and session take it."""
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
        """Of a window that is cut because memory is short."""
        return max(smallest_window(self._halo), SMALLEST_WINDOW, self.session.metadata.smallest)


def _batches(steps: Sequence[_Step]) -> Iterator[NDArray[np.float32]]:
    """What the network is given, made when it is asked for."""
    for source, _, tile in steps:
        yield to_batch(source[tile.window])
