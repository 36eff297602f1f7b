"""Upscales a picture from bytes to bytes; no file is read or written."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import UnidentifiedImageError

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.formats import BY_SUFFIX, SIGNATURE_SIZE, format_of
from lkdn_deploy.imaging.files.picture import Header, Picture
from lkdn_deploy.imaging.files.read import decoded, open_in_memory
from lkdn_deploy.imaging.files.write import check_fit, encode_bands
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.runtime.memory import PictureMemory, ProcessMemory
from lkdn_deploy.runtime.settings import OutputSettings
from lkdn_deploy.runtime.tiling import UpscaledRows
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.runtime.upscalers import Upscalers

_NAME = "the picture"


class NoPictureError(InputError):
    """Bytes that are no picture of a format that can be read."""


class TooLargeError(InputError):
    """A picture that has more pixels, or needs more memory, than is allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class UpscaledBytes:
    """A result.

    Attributes:
        content: the file.
        format: its format, as its suffix without the dot.
        header: of the source.
        width, height: of the result, in pixels.
        model: name of the network that it was done with.
        scale: of that network.
        backend: engine and device that ran it.
        exact: whether the result equals that of the whole image.
        seconds: time in the network and its conversions, without reading and writing.
        notes: facts that the user should know, a sentence each.
    """

    content: memoryview
    format: str
    header: Header
    width: int
    height: int
    model: str
    scale: int
    backend: str
    exact: bool
    seconds: float
    notes: tuple[str, ...]


def upscale_bytes(
    upscalers: Upscalers, content: bytes, settings: OutputSettings, *, max_pixels: int, memory: ProcessMemory
) -> UpscaledBytes:
    """Upscale a picture.

    Args:
        upscalers: the network, at the scales that pictures need.
        content: a file of any format that can be read.
        settings: format and quality of the result; default format: that of the picture, or PNG if that is not written.
        max_pixels: most pixels that the picture may have, which is found out before any is decoded.
        memory: what there is.

    Raises:
        NoPictureError: if it is of no known format.
        TooLargeError: if it has too many pixels, or there is not enough memory.
        InputError: if it is damaged, or cannot be upscaled or written.
        UsageError: if the format cannot hold the result, or the network cannot make it.
    """
    try:
        with open_in_memory(content, _NAME) as image:
            header = image.header
            if header.width * header.height > max_pixels:
                msg = f"{_NAME} is {header.width}x{header.height}, {header.width * header.height:,} pixels; "
                msg += f"at most {max_pixels:,} are taken"
                raise TooLargeError(msg, "send a smaller picture, or parts of it")
            upscaler = upscalers.for_size(header.height, header.width)
            suffix = settings.format or _own_format(content)
            name = f"the result.{suffix}"
            height, width = upscaler.result_size(header.height, header.width)
            check_fit(name, width=width, height=height, channels=header.channels, depth=header.depth)
            need = _planned(memory, header, name, upscaler, len(content))
            picture = decoded(image)
    except InputError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise NoPictureError(error.message, error.hint) from error
        raise
    return _computed(picture, upscaler, settings, name, need, memory)


def _own_format(content: bytes) -> str:
    """Return the suffix of a picture's own format, if it can be written."""
    kind = format_of(content[:SIGNATURE_SIZE])
    return kind.suffixes[0][1:] if kind is not None and kind.suffixes else "png"


def _planned(memory: ProcessMemory, header: Header, name: str, upscaler: Upscaler, size: int) -> PictureMemory:
    """Return the memory that a picture takes, its encoded result included, which is no smaller than its pixels at most.

    Raises:
        TooLargeError: if there is not enough.
    """
    kind = BY_SUFFIX[f".{name.rpartition('.')[2]}"]
    need = memory.plan(header, kind, upscaler, file_size=size, parts=lambda: None)
    height, width = upscaler.result_size(header.height, header.width)
    need = replace(need, result=max(need.result, height * width * header.channels * header.depth // 8))
    try:
        memory.check(need, header, upscaler, held=0)
    except InputError as error:
        raise TooLargeError(error.message, "send a smaller picture, or ask for a smaller scale") from error
    return need


def _computed(
    picture: Picture,
    upscaler: Upscaler,
    settings: OutputSettings,
    name: str,
    need: PictureMemory,
    memory: ProcessMemory,
) -> UpscaledBytes:
    header, file = picture.header, io.BytesIO()
    with upscaler.bands(picture.pixels, room=need.room(memory.budget(need, 0))) as rows:
        height, width, channels = rows.shape
        large = replace(picture.description, header=Header(width, height, channels, header.depth))
        timed = _Timed(rows)
        notes = encode_bands(file, name, large, timed, quality=settings.quality, threads=upscaler.threads)
    return UpscaledBytes(
        content=file.getbuffer(),
        format=name.rpartition(".")[2],
        header=header,
        width=width,
        height=height,
        model=upscaler.session.metadata.model,
        scale=upscaler.scale,
        backend=upscaler.session.backend,
        exact=rows.exact,
        seconds=timed.seconds,
        notes=(*picture.notes, *notes),
    )


class _Timed(Iterator[Pixels]):
    """The rows of a result, and the seconds that it took to compute them."""

    def __init__(self, rows: UpscaledRows) -> None:
        self._rows, self.seconds = rows, 0.0

    def __next__(self) -> Pixels:
        start = time.perf_counter()
        try:
            return next(self._rows)
        finally:
            self.seconds += time.perf_counter() - start
