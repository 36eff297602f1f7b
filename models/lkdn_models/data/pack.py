"""A pack: the pixels of many photographs at both resolutions in one file, to be mapped into memory.

Layout: the pixels, uint8 RGB, of each photograph first the low-resolution image, then the high-resolution one; the
index as JSON; a tail of fixed size with the index's length and SHA-256, the format's version and a signature. What is
read is checked against the file's size, so that a file that was cut off or written over is not mistaken for a pack.
Pixels are not checked: to read them all is what a pack saves.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError

VERSION = 2
SIGNATURE = b"LKDNpack"
TAIL = struct.Struct("<Q32sI8s")


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph at both resolutions.

    Attributes:
        path: the file that it comes from.
        factor: by how much it was shrunk before use; 1: not at all.
        low: (h, w, 3) uint8 RGB, read-only.
        high: (scale * h, scale * w, 3) uint8 RGB, read-only.
    """

    path: Path
    factor: int
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a pack has a photograph.

    Attributes:
        path: the file that it comes from.
        full_width, full_height: of that file's image.
        factor: by how much it was shrunk.
        width, height: of the low-resolution image.
        at: offset of its first byte.
    """

    path: str
    full_width: int
    full_height: int
    factor: int
    width: int
    height: int
    at: int

    def end(self, scale: int) -> int:
        """Offset of the byte after its last."""
        return self.at + 3 * self.width * self.height * (1 + scale**2)


class PackedPhotos(Sequence[Photo]):
    """Photographs of a pack, whose pixels the system reads from the file when they are looked at.

    Copies in other processes map the file anew.
    """

    def __init__(self, path: Path, pixels: NDArray[np.uint8], scale: int, entries: Sequence[Entry]) -> None:
        self._path = path
        self._pixels = pixels
        self._scale = scale
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedPhotos": ...
    def __getitem__(self, index: int | slice) -> "Photo | PackedPhotos":
        if isinstance(index, slice):
            return self._only(self.entries[index])
        entry = self.entries[index]
        height, width, scale = entry.height, entry.width, self._scale
        middle = entry.at + 3 * height * width
        return Photo(
            Path(entry.path),
            entry.factor,
            self._pixels[entry.at : middle].reshape(height, width, 3),
            self._pixels[middle : entry.end(scale)].reshape(scale * height, scale * width, 3),
        )

    def filter(self, wanted: Callable[[Entry], bool]) -> "PackedPhotos":
        """Those that are wanted, in the same order."""
        return self._only([entry for entry in self.entries if wanted(entry)])

    def _only(self, entries: Sequence[Entry]) -> "PackedPhotos":
        return PackedPhotos(self._path, self._pixels, self._scale, entries)

    def __reduce__(self) -> "tuple[Callable[..., PackedPhotos], tuple[Path, int, int, tuple[Entry, ...]]]":
        return _map_again, (self._path, len(self._pixels), self._scale, self.entries)


@dataclass(frozen=True, slots=True)
class Pack:
    """What a pack holds.

    Attributes:
        photos: all of them.
        left_out: files that could not be read when it was made.
    """

    photos: PackedPhotos
    left_out: tuple[str, ...]


class PackWriter:
    """Writes a pack photograph by photograph. Errors of the file are passed on as they are."""

    def __init__(self, file: IO[bytes], key: str, scale: int) -> None:
        self._file = file
        self._key = key
        self._scale = scale
        self._at = 0
        self.entries: list[Entry] = []

    def add(self, path: Path, size: tuple[int, int], factor: int, pair: tuple[NDArray[np.uint8], ...]) -> None:
        """Append a photograph of ``size`` (width, height), shrunk by ``factor``: (h, w, 3) and (scale * h, ..., 3)."""
        height, width = pair[0].shape[:2]
        entry = Entry(str(path), *size, factor, width, height, self._at)
        for image in pair:
            self._file.write(np.ascontiguousarray(image).data)
        self._at = entry.end(self._scale)
        self.entries.append(entry)

    def finish(self, left_out: Iterable[str]) -> None:
        """Append the index, and see that all is on the disk."""
        table = {
            "key": self._key,
            "scale": self._scale,
            "bytes": self._at,
            "photos": [astuple(entry) for entry in self.entries],
            "left_out": list(left_out),
        }
        index = json.dumps(table).encode()
        self._file.write(index)
        self._file.write(TAIL.pack(len(index), hashlib.sha256(index).digest(), VERSION, SIGNATURE))
        # Some disks tell only now that they are full; and a name must not lead to what a power cut took away.
        self._file.flush()
        os.fsync(self._file.fileno())


def open_pack(path: Path, key: str, scale: int) -> Pack | None:
    """The pack at ``path``; None if there is none, or not one that was made whole, for ``key`` and ``scale``."""
    try:
        with path.open("rb") as file:
            return _open(path, file, key, scale)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error):
        return None


def _open(path: Path, file: IO[bytes], key: str, scale: int) -> Pack:
    """As ``open_pack``; raises one of what it catches. Nothing that the file says is trusted."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - TAIL.size))
    length, digest, version, signature = TAIL.unpack(file.read(TAIL.size))
    total = size - TAIL.size - length
    _insist(signature == SIGNATURE and version == VERSION and total > 0)
    file.seek(total)
    index = file.read(length)
    _insist(hashlib.sha256(index).digest() == digest)
    table = json.loads(index)
    _insist([table["key"], table["scale"], table["bytes"]] == [key, scale, total])
    entries = [_entry(values, scale, total) for values in table["photos"]]
    left_out = table["left_out"]
    _insist(len(entries) > 0 and isinstance(left_out, list) and all(isinstance(name, str) for name in left_out))
    return Pack(PackedPhotos(path, _map(file, total), scale, entries), tuple(left_out))


def _entry(values: list[object], scale: int, total: int) -> Entry:
    path, *numbers = values
    _insist(isinstance(path, str) and all(type(number) is int for number in numbers))
    entry = Entry(path, *numbers)  # type: ignore[arg-type]
    positive = (entry.full_width, entry.full_height, entry.factor, entry.width, entry.height)
    _insist(min(positive) > 0 and entry.at >= 0 and entry.end(scale) <= total)
    return entry


def _insist(holds: bool) -> None:
    if not holds:
        msg = "not a pack, or not the one asked for"
        raise ValueError(msg)


def _map(file: IO[bytes], size: int) -> NDArray[np.uint8]:
    return np.memmap(file, np.uint8, "r", shape=(size,)).view(np.ndarray)


def _map_again(path: Path, size: int, scale: int, entries: tuple[Entry, ...]) -> PackedPhotos:
    try:
        with path.open("rb") as file:
            return PackedPhotos(path, _map(file, size), scale, entries)
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg, "start again: what the cache lacks is made anew") from error
