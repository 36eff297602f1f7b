"""What a pack will hold, told from the headers of the images alone; and the images themselves."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.read import Size, read_rgb, read_size
from lkdn_deploy.imaging.resample import downsample, imresize
from lkdn_models.data.folders import Source, check_pair
from lkdn_models.data.pack import Entry

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(h, w, 3) and (scale * h, scale * w, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Photographs:
    """What becomes of one source.

    Attributes:
        size: of the image in its file.
        pairs: by how much it was shrunk, and what it then is at both resolutions.
    """

    size: Size
    pairs: tuple[tuple[int, Pair], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to pack.

    Attributes:
        sources: those that seem readable.
        entries: where each photograph will be, if none turns out to be unreadable.
        left_out: files that are not readable.
    """

    sources: tuple[Source, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]


def factors(size: Size, sides: Iterable[int]) -> list[int]:
    """The whole numbers to shrink an image by, ascending: for each of ``sides`` the least that brings the longer side
    to at most that many pixels. Without sides, 1.
    """
    return sorted({-(-max(size) // side) for side in sides}) or [1]


def make_plan(sources: Sequence[Source], scale: int, sides: Sequence[int]) -> Plan:
    """Read the headers. An image that cannot be read is named in a warning.

    Raises:
        InputError: if the sizes of a pair do not fit.
    """
    kept, entries, left_out, at = [], [], [], 0
    for source in sources:
        try:
            size, *low = (read_size(path) for path in source.files)
        except InputError as error:
            warn_of(error)
            left_out.append(source.file)
            continue
        if low:
            check_pair(source, size, low[0], scale)
        kept.append(source)
        for factor in factors(size, sides):
            width, height = (-(-side // factor) // scale for side in size)
            entries.append(Entry(str(source.high), *size, factor, width, height, at))
            at = entries[-1].end(scale)
    return Plan(tuple(kept), tuple(entries), tuple(left_out))


def read_pairs(source: Source, scale: int, sides: Sequence[int]) -> Photographs:
    """Decode a photograph, and shrink it as ``sides`` ask and by ``scale``.

    Raises:
        InputError: if it cannot be read, or the sizes of a pair do not fit.
    """
    image, *partner = (read_rgb(path) for path in source.files)
    size = _size(image)
    if partner:
        check_pair(source, size, _size(partner[0]), scale)
        return Photographs(size, ((1, _aligned(partner[0], image, scale)),))
    shrunk = ((factor, _shrunk(image, factor)) for factor in factors(size, sides))
    return Photographs(size, tuple((factor, _aligned(downsample(high, scale), high, scale)) for factor, high in shrunk))


def warn_of(error: InputError) -> None:
    """Say that an image is left out, and why."""
    warnings.warn(f"left out: {error}", stacklevel=2)


def _size(image: NDArray[np.uint8]) -> Size:
    return image.shape[1], image.shape[0]


def _shrunk(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return image if factor == 1 else imresize(image, Fraction(1, factor))  # type: ignore[return-value]


def _aligned(low: NDArray[np.uint8], high: NDArray[np.uint8], scale: int) -> Pair:
    """``high`` without the rows and columns that ``low`` has no whole pixel for."""
    return low, high[: scale * low.shape[0], : scale * low.shape[1]]
