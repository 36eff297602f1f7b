"""The memory that this process may take, and the part of it that upscaling a picture needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.limits import available_memory
from lkdn_deploy.imaging.files.formats import ImageFormat
from lkdn_deploy.imaging.files.picture import MAX_PIXELS, Header
from lkdn_deploy.runtime.tiling import Room, fills_pixels
from lkdn_deploy.runtime.upscaler import MEMORY_BUDGET, Upscaler

_ENGINE = 64 << 20
"""Bytes that a process takes beside pictures and windows as it works: compiled code, codecs, stripes being encoded."""

_USUAL = 1 << 30
"""Bytes for windows, the picture in the network and another one read ahead, if there is no limit.

Of 8000x6000 pixels, LKDN-S x2 computes 1.47 times as many in the 580 MiB that are left for windows and bands, 1.31
times in 950 MiB; and the process stays below 900 MB (benchmarks/memory.py)."""

_COMFORTABLE, _LARGEST = 256 << 20, 2 * MEMORY_BUDGET
"""Bytes for a window: a picture is read in parts rather than have less, and never has it more."""

_VALUES = 12
"""Bytes of a pixel in float32."""

_ALPHA = 96 << 20
"""Bytes in which colours under transparent pixels are filled."""


@dataclass(frozen=True, slots=True)
class PictureMemory:
    """The memory that a picture takes.

    Attributes:
        in_parts: whether its file is read in parts, while its result is computed.
        source: bytes of the picture while it is in memory, or that reading its parts takes.
        reading: bytes that reading it takes.
        result: bytes of the result where it is collected and encoded as a whole; 0 where it is written in stripes.
        pixel, source_row, result_row: as in ``Room``.
    """

    in_parts: bool
    source: int
    reading: int
    result: int
    pixel: int
    source_row: int
    result_row: int

    def room(self, budget: int) -> Room:
        """Return the room for its windows."""
        return Room(budget, self.pixel, self.source_row, self.result_row)


class ProcessMemory:
    """The memory that this process may take.

    Args:
        limit: bytes that it may take in all, the interpreter included; default: as much as is free.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._base = _taken() + _ENGINE

    def free(self, held: int = 0) -> int:
        """Return the bytes that are left beside the process itself and ``held`` bytes for pictures; 0 if none."""
        total = _taken() + available_memory()
        total = total if self._limit is None else min(total, self._limit)
        return max(total - self._base - held, 0)

    def budget(self, picture: PictureMemory, held: int) -> int:
        """Return the bytes for windows of a picture, beside it and ``held`` bytes for others."""
        taken = picture.source + picture.result + held
        free = self.free(taken)
        ahead = 0 if picture.in_parts else picture.source  # for the next picture, which may be as large
        if self._limit is not None:
            return min(free - (ahead if ahead < free // 8 else 0), _LARGEST)
        usual = _USUAL - self._base - taken - ahead
        return min(free, max(usual, _COMFORTABLE), MEMORY_BUDGET)

    def check(self, picture: PictureMemory, header: Header, upscaler: Upscaler, held: int) -> None:
        """Refuse a picture for which there is not enough memory.

        Args:
            picture: what it takes.
            header: of its source.
            upscaler: the network.
            held: bytes that others hold while it is read.

        Raises:
            InputError: if it cannot be read beside them, or cannot be upscaled when they are gone; with numbers.
        """
        free = self.free(picture.source + picture.result)
        least = sum(upscaler.room_taken(header.height, header.width, picture.room(free)))
        need, have = picture.source + picture.result + least, self.free()
        if need <= have:
            need, have = max(picture.source, picture.reading), self.free(held)
        if need > have:
            asked = f"x{upscaler.scale} of {header.width}x{header.height}"
            whole = "" if self._limit is None else f" (of {self._limit >> 20} MiB, the program itself takes the rest)"
            msg = f"{asked} needs {-(-need >> 20)} MiB beside the program, {have >> 20} MiB are free{whole}"
            ways = ["allow more memory (--max-memory)", "use a smaller scale"]
            ways += ["write .png, .tif or .jpg, which are written in parts"] if picture.result else []
            ways += [] if picture.in_parts else ["give a TIFF file of strips or tiles, which is read in parts"]
            raise InputError(msg, f"{', '.join(ways[:-1])}, or {ways[-1]}")

    def plan(
        self, header: Header, kind: ImageFormat, upscaler: Upscaler, *, file_size: int, parts: Callable[[], int | None]
    ) -> PictureMemory:
        """Decide how a picture is read, and return the memory that it takes.

        Args:
            header: of the source.
            kind: format of the target.
            upscaler: the network.
            file_size: bytes of the source.
            parts: gives the bytes that reading in parts takes, None if the file must be read as a whole.
        """
        scale = upscaler.scale
        height, width = upscaler.padded(header.height, header.width)
        row = width * header.channels * header.depth // 8
        alpha = _ALPHA if header.channels in (2, 4) and width * height > 1 << 20 else 0
        rows, columns = upscaler.result_size(header.height, header.width)
        result = 0 if kind.in_stripes else 2 * rows * columns * header.channels * header.depth // 8
        if upscaler.wrap and upscaler.size is not None:  # all rows are filtered together, as floats
            result += 4 * scale**2 * height * width * (2 * header.channels - 1)
        whole = PictureMemory(
            in_parts=False,
            source=row * height + alpha,
            reading=row * height + file_size,
            result=result,
            pixel=_VALUES * (1 if fills_pixels(upscaler.session, header.dtype, header.channels) else 1 + scale**2),
            source_row=row if alpha else 0,
            result_row=scale**2 * row,
        )
        fits = self.free(whole.source + result) >= _COMFORTABLE and self.free() >= whole.reading
        if header.width * header.height <= MAX_PIXELS and fits:
            return whole
        beside = parts()
        if beside is None:
            return whole
        # The rows of a window are held once by the reader, and once as they are cut for the network.
        return replace(whole, in_parts=True, source=beside + alpha, reading=0, source_row=2 * row)


def _taken() -> int:
    """Return the bytes that this process takes now."""
    return int(psutil.Process().memory_info().rss)
