"""Segments of a film that is being made: the encoded pictures, in a folder beside the result.

A segment is what one encoder made of a fixed number of pictures, beginning with a key frame. Every film is made of
them, whether in one run or several, so all runs give the same film. A killed run leaves only whole segments, since each
gets its name when it is complete; a later run takes them if the folder's key says that they come from the same input
and settings.
"""

import errno
import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import open_regular, publish, read_bounded

if TYPE_CHECKING:
    from av.packet import Packet

_MAGIC = b"lkdn segment 1\n"
_PACKET = struct.Struct("<qI?")  # time of showing, bytes, whether it is a key frame
_END = _PACKET.pack(0, 0xFFFF_FFFF, False)
_LARGEST_PACKET = 1 << 30
_LARGEST_KEY = 1 << 16


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded picture.

    Attributes:
        pts: when it is shown, in units of the film's time base.
        key: whether decoding can begin here.
        data: as the encoder made it.
    """

    pts: int
    key: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class FilmSegment:
    """A complete segment. One without pictures stands at the end of a film.

    Attributes:
        path: its file.
        times: when its pictures are shown, in the order of decoding.
    """

    path: Path
    times: tuple[int, ...]

    def packets(self) -> Iterator[Encoded]:
        """Read the pictures, in the order of decoding.

        Raises:
            InputError: if the file has been changed.
        """
        try:
            with open_regular(self.path) as file:
                file.seek(len(_MAGIC))
                for _ in self.times:
                    if (packet := _read_packet(file.read)) is None:
                        raise ValueError
                    yield packet
        except (OSError, ValueError, struct.error) as error:
            msg = f"{self.path}, a part of the film, has been changed or removed"
            raise InputError(msg, "run it again without --resume") from error


def folder_for(target: Path) -> Path:
    """Return the hidden folder beside a film in which its segments are."""
    return target.with_name(f".{target.name}.segments")


class SegmentFolder:
    """The segments of one film.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def matches(self, key: dict[str, object]) -> bool:
        """Return whether the segments come from this input and these settings."""
        with suppress(OSError, ValueError):
            return bool(json.loads(read_bounded(self._key, _LARGEST_KEY)) == key)
        return False

    def write_key(self, key: dict[str, object]) -> None:
        """Say what the segments come from. Without a key they are never used again."""
        with publish(self._key) as part:
            part.write_text(json.dumps(key, sort_keys=True, indent=1), encoding="utf-8")

    def begun(self) -> bool:
        """Return whether there is a finished segment."""
        return os.path.lexists(self._file(0))

    def begin(self) -> None:
        """Remove the segments of an earlier run, and no other file.

        Raises:
            InputError: if they cannot be removed.
        """
        try:
            for path in self._path.iterdir():
                if _OWN.fullmatch(path.name):
                    path.unlink()
        except OSError as error:
            msg = f"{self._path} cannot be emptied: {error.strerror or error}"
            raise InputError(msg, "remove it yourself, or write the film elsewhere") from error

    def finished(self) -> list[FilmSegment]:
        """Return the segments from the first on, up to the end, or where one is missing or damaged.

        A film without pictures is no result, so an end that comes first is none.
        """
        found: list[FilmSegment] = []
        while not (found and not found[-1].times) and (segment := _read_segment(self._file(len(found)))) is not None:
            found.append(segment)
        return found if found and found[0].times else []

    @contextmanager
    def writing(self, number: int) -> Iterator[Callable[["Packet[Any]"], None]]:
        """Give a function that adds a packet of the encoder to a segment, which appears complete or not at all.

        Raises:
            InputError: if it cannot be written.
        """
        with publish(self._file(number)) as part, part.open("wb") as file:
            digest = hashlib.sha256()

            def write(*pieces: bytes) -> None:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)

            write(_MAGIC)

            def add(packet: "Packet[Any]") -> None:
                write(_PACKET.pack(packet.pts or 0, packet.size, packet.is_keyframe), bytes(packet))

            yield add
            write(_END)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the folder, unless there is something else in it."""
        with suppress(OSError, InputError):
            self.begin()
            (self._path / _LOCK).unlink()
            self._path.rmdir()

    @property
    def _key(self) -> Path:
        return self._path / "key.json"

    def _file(self, number: int) -> Path:
        return self._path / f"{number:06}.segment"


_LOCK = "lock"
_OWN = re.compile(r"key\.json|\d{6,}\.segment|\.[0-9a-f]{12}\.part\.(json|segment)", re.ASCII)
"""Names of files in the folder, but for the lock: with those that ``publish`` left as it was killed."""


@contextmanager
def locked(path: Path) -> Iterator[SegmentFolder]:
    """Make the folder of a film's segments if it is missing, and keep other runs away from it.

    Raises:
        InputError: if it cannot be made, or is a link, as it could lead to files of others.
        UsageError: if another run is using it.
    """
    try:
        path.mkdir(exist_ok=True)
        if path.is_symlink():
            raise OSError(errno.EINVAL, "it is a link", os.fspath(path))
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        msg = f"{path}, where the film's segments are kept while it is made, cannot be written: {error.strerror}"
        raise InputError(msg) from error
    try:
        _lock(descriptor, path)
        if not _same(descriptor, path / _LOCK):  # the run that had it has removed the folder
            raise _in_use(path)
        yield SegmentFolder(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Take the lock of a file, which ends with its process."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _in_use(path) from error


def _in_use(path: Path) -> UsageError:
    msg = f"another run is making this film: it uses {path}"
    return UsageError(msg, "wait for it, or choose another output")


def _same(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _read_segment(path: Path) -> FilmSegment | None:
    """Return the segment of a file if it is complete and unchanged."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:

            def take(count: int) -> bytes:
                piece = file.read(count)
                digest.update(piece)
                return piece

            times = []
            if take(len(_MAGIC)) == _MAGIC:
                while (packet := _read_packet(take)) is not None:
                    times.append(packet.pts)
                if file.read(digest.digest_size + 1) == digest.digest():
                    return FilmSegment(path, tuple(times))
    except (OSError, ValueError, struct.error):
        pass
    return None


def _read_packet(take: Callable[[int], bytes]) -> Encoded | None:
    """Read a picture; ``None`` at the end of its segment.

    Raises:
        ValueError: if the segment is damaged.
        struct.error: if it is cut short.
    """
    head = take(_PACKET.size)
    if head == _END:
        return None
    pts, size, key = _PACKET.unpack(head)
    if size > _LARGEST_PACKET:
        raise ValueError(size)
    data = take(size)
    if len(data) != size:
        raise ValueError(size)
    return Encoded(pts, key, data)
