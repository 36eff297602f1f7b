"""Decoded photographs in the user's cache: one memory-mapped array for each photograph and size.

Photographs are decoded and shrunk once, not by every process at every start. The name of an array is made of its source
and of everything that its pixels depend on, so a changed photograph is decoded again. The folder's size is bounded:
arrays that were used longest ago make room.
"""

import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from lkdn_deploy.core import cache
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.imaging.files.read import Size, read_rgb
from lkdn_deploy.imaging.resample import downsample, imresize
from lkdn_models.data.folders import Source

VERSION = 3
"""Raised when the same file would be decoded to other pixels, or stored in another way."""
LIMIT = 48 << 30
"""Bytes that the arrays may take unless stated otherwise. DIV2K and Flickr2K need about 29 GiB at x4."""
ABANDONED = 3600
"""Seconds after which an unfinished array is taken to be of a process that was killed."""
THREADS = 4
"""Threads that decode. Pillow and numpy release the interpreter's lock meanwhile."""
AT_ONCE = 1 << 25
"""Pixels of the images that are decoded at once; each takes up to 64 bytes on the way."""
MOST_MAPPED = 400
"""Arrays that a process keeps mapped: each holds a file open, of which a process may often have 1024 only."""

_OURS = re.compile(r"[0-9a-f]{24}\.[0-9a-f]{24}\.npy|[0-9a-f]{16}-[0-9a-f]{64}\.pack")
"""Names of arrays, and of the packs of earlier versions: other files in the folder are somebody else's."""

HINT = "free some space, or choose another folder for the cache"

Progress = Callable[[int, int], object]
"""Called with the numbers of photographs decoded and to decode."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph at one size and both resolutions.

    Attributes:
        path: file that it comes from.
        full_size: width and height of that file's image.
        factor: factor by which it was shrunk; 1: not at all.
        size: width and height of the low-resolution image.
        scale: HR pixels for each LR pixel.
        array: file of the decoded pixels.
    """

    path: Path
    full_size: Size
    factor: int
    size: Size
    scale: int
    array: Path

    @property
    def name(self) -> str:
        """File name without its folder."""
        return self.path.name

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels at both resolutions."""
        return 3 * self.size[0] * self.size[1] * (1 + self.scale**2)

    @property
    def low(self) -> NDArray[np.uint8]:
        """Low-resolution image, (h, w, 3) uint8 RGB, read-only."""
        width, height = self.size
        return self._pixels()[: 3 * height * width].reshape(height, width, 3)

    @property
    def high(self) -> NDArray[np.uint8]:
        """High-resolution image, (scale * h, scale * w, 3) uint8 RGB, read-only."""
        width, height = self.size
        return self._pixels()[3 * height * width :].reshape(self.scale * height, self.scale * width, 3)

    @property
    def is_decoded(self) -> bool:
        """Whether the pixels are in the cache, complete."""
        try:
            return bool(_map(self.array).shape == (self.nbytes,))
        except (OSError, ValueError):
            return False

    def _pixels(self) -> NDArray[np.uint8]:
        try:
            return _mapped(self.array)
        except (OSError, ValueError) as error:
            msg = f"{self.array} cannot be read: {error}"
            raise InputError(msg, "start again: what the cache lacks is decoded anew") from error


def default_folder() -> Path:
    """Return the folder of the arrays unless another one is given."""
    return cache.folder("training")


def factors(size: Size, sides: Iterable[int]) -> list[int]:
    """Return the whole numbers to shrink an image by, ascending.

    For each of ``sides`` that is the smallest number that brings the longer side to at most so many pixels. Without
    sides, it is 1.
    """
    return sorted({-(-max(size) // side) for side in sides}) or [1]


def plan(source: Source, full: Size, scale: int, sides: Sequence[int], folder: Path) -> list[Photo]:
    """Return a photograph at each of its sizes; nothing is decoded.

    Args:
        source: files of the photograph.
        full: width and height of the image in its file.
        scale: HR pixels for each LR pixel.
        sides: sizes, as ``factors`` takes them.
        folder: folder of the arrays.
    """
    files = [_stamp(path) for path in source.files]
    photos = []
    for factor in factors(full, sides):
        size = -(-full[0] // factor) // scale, -(-full[1] // factor) // scale
        place = _digest([[name for name, *_ in files], scale, factor])
        array = folder / f"{place}.{_digest([VERSION, files])}.npy"
        photos.append(Photo(source.high, full, factor, size, scale, array))
    return photos


def decode(
    plans: Mapping[Source, Sequence[Photo]], folder: Path, limit: int = LIMIT, progress: Progress | None = None
) -> list[Source]:
    """Decode and shrink the photographs that are not in the cache.

    Each array appears when it is complete, so an interrupted decoding keeps what it has.

    Args:
        plans: photographs at all their sizes, by source.
        folder: folder of the arrays.
        limit: bytes that the folder may take; arrays that were used longest ago are deleted.
        progress: called after each photograph; not called if all are in the cache.

    Returns:
        The sources that cannot be read; each is named in a warning.

    Raises:
        InputError: if the photographs take more than the limit or the free space, or cannot be written.
    """
    missing: dict[Source, list[Photo]] = {}
    for source, photo in ((source, photo) for source, photos in plans.items() for photo in photos):
        if not photo.is_decoded:
            missing.setdefault(source, []).append(photo)
        else:
            with suppress(OSError):  # a cache of another user
                os.utime(photo.array)
    if not missing:
        return []
    _mapped.cache_clear()  # a damaged array may be among them
    wanted = [photo for photos in plans.values() for photo in photos]
    _make_room(folder, wanted, sum(photo.nbytes for photos in missing.values() for photo in photos), limit)
    largest = max(photos[0].full_size[0] * photos[0].full_size[1] for photos in missing.values())
    failed = []
    with (
        ThreadPoolExecutor(max(1, min(THREADS, os.cpu_count() or 1, AT_ONCE // largest))) as pool,
        closing(pool.map(_decode, missing, missing.values())) as errors,  # type: ignore[type-var]
    ):
        for done, (source, error) in enumerate(zip(missing, errors, strict=True), 1):
            if error:
                warn_left_out(error)
                failed.append(source)
            if progress:
                progress(done, len(missing))
    return failed


def warn_left_out(error: InputError) -> None:
    """Warn that an image is left out, with the reason."""
    warnings.warn(f"left out: {error}", stacklevel=2)


def _decode(source: Source, photos: Sequence[Photo]) -> InputError | None:
    """Write the arrays of a photograph; return the reason if it cannot be read."""
    try:
        image, *partner = (read_rgb(path) for path in source.files)
    except InputError as error:
        return error
    expected = photos[0].full_size, photos[0].size
    for path, pixels, size in zip(source.files, (image, *partner), expected, strict=False):
        if (pixels.shape[1], pixels.shape[0]) != size:
            msg = f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, but its header has {size[0]}x{size[1]}"
            return InputError(msg)
    for photo in photos:
        high = _shrunk(image, photo.factor)
        low = partner[0] if partner else downsample(high, photo.scale)
        # Rows and columns that the low-resolution image has no whole pixel for are cut off.
        high = high[: photo.scale * low.shape[0], : photo.scale * low.shape[1]]
        _write(photo, np.concatenate([low.ravel(), high.ravel()]))
    return None


def _shrunk(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return image if factor == 1 else imresize(image, Fraction(1, factor))  # type: ignore[return-value]


def _write(photo: Photo, pixels: NDArray[np.uint8]) -> None:
    try:
        with publish(photo.array) as part, part.open("wb") as file:
            np.save(file, pixels)
            file.flush()
            os.fsync(file.fileno())  # a name must not lead to pixels that a power cut took away
    except InputError as error:
        raise InputError(error.message, HINT) from error
    for old in photo.array.parent.glob(f"{photo.array.name.partition('.')[0]}.*"):
        if old != photo.array:
            with suppress(OSError):  # where a file in use cannot be deleted, it goes when room is needed
                old.unlink()


def _make_room(folder: Path, wanted: Sequence[Photo], need: int, limit: int) -> None:
    """Delete arrays that were used longest ago, until ``need`` more bytes fit.

    Raises:
        InputError: if they would not fit into an empty cache, or the disk is too full.
    """
    total = sum(photo.nbytes for photo in wanted)
    if total > limit:
        msg = f"the decoded photographs take {_gib(total)}, more than the {_gib(limit)} that the cache may take"
        raise InputError(msg, "train on fewer photographs, or lower max_sides in the recipe")
    try:
        cache.make_folder(folder)
    except InputError as error:
        raise InputError(error.message, HINT) from error
    for part in folder.glob(".*.part.npy"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()
    keep, others = {photo.array for photo in wanted}, []
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path not in keep:
            with suppress(OSError):
                facts = path.stat()
                others.append((facts.st_mtime, facts.st_size, path))
    others.sort(reverse=True)
    if need > (possible := shutil.disk_usage(folder).free + sum(size for _, size, _ in others)):
        msg = f"the decoded photographs take {_gib(need)}, but {folder} has room for {_gib(possible)} only"
        raise InputError(msg, HINT)
    while others and (total + sum(size for _, size, _ in others) > limit or need > shutil.disk_usage(folder).free):
        with suppress(OSError):
            others.pop()[2].unlink()


def _map(path: Path) -> NDArray[np.uint8]:
    """Map an array.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged, or no array of pixels.
    """
    try:
        array = open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # whatever a damaged header makes numpy trip over
        raise ValueError(error) from error
    if array.dtype != np.uint8 or array.ndim != 1:
        msg = "it is no array of pixels"
        raise ValueError(msg)
    return array.view(np.ndarray)


_mapped = lru_cache(MOST_MAPPED)(_map)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """Return a file's path, size and times of change: of its contents, which `cp -p` sets back, and of its status."""
    real = os.path.realpath(path)
    facts = os.stat(real)  # noqa: PTH116
    return real, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB"
