"""The user's cache: the one place for compiled code, converted checkpoints, rewritten graphs, engines and downloads.

Some of what is found there is executed. As Python does with its own compiled files, the cache is trusted as far as its
folder is: folder and file must belong to the user and be writable by nobody else. Both are opened once, without
following links, and what is open is checked, so nothing can be put in their place in between. A file of a `Store`
carries the SHA-256 of its name and content in its name, so a damaged or renamed one is never used.
"""

import hashlib
import logging
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import remove_stale_parts

log = logging.getLogger(__name__)

_FOLLOW = os.utime not in os.supports_follow_symlinks
_FOLDER_DESCRIPTORS = os.open in os.supports_dir_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def folder(kind: str) -> Path:
    """Return the folder for one kind of file, which need not exist yet; ``XDG_CACHE_HOME`` moves it."""
    return _root() / kind


def _root() -> Path:
    return platformdirs.user_cache_path("lkdn-deploy")


def make_folder(path: Path) -> Path:
    """Create a folder and those above it for the user alone, whatever the umask is, and return it.

    Folders of the cache that exist already are closed to others if they belong to the user.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        for it in reversed([path, *path.parents]):
            if not it.exists():
                it.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise NotADirectoryError(0, "there is a file of that name")
        root = _root()
        for it in (root, path) if root in path.parents else ():
            if not is_private(it) and it.stat().st_uid == os.geteuid():
                it.chmod(0o700)
    except OSError as error:
        msg = f"the cache folder {path} cannot be created: {error.strerror}"
        raise InputError(msg, "set XDG_CACHE_HOME to a folder that can be written") from error
    return path


def recent_folder(kind: str, name: str, most: int) -> Path:
    """Create a folder of a library that keeps files of its own there, and remove the least recently used others.

    Args:
        kind: folder of the cache in which it is.
        name: its name.
        most: number of such folders to keep.

    Raises:
        InputError: if it cannot be created.
    """
    path = make_folder(folder(kind) / name)
    with suppress(OSError):  # another process may remove the same folders
        os.utime(path)
        others = sorted(path.parent.iterdir(), key=lambda it: it.lstat().st_mtime, reverse=True)
        for other in others[most:]:
            shutil.rmtree(other, ignore_errors=True)
    return path


def is_private(path: Path) -> bool:
    """Return whether nobody but this user, and the system's own accounts, can have written ``path``.

    Raises:
        OSError: if it does not exist.
    """
    return _private(path.stat())


def _private(found: os.stat_result) -> bool:
    if sys.platform == "win32":  # the cache lies in the user's profile, whose access rights ensure it
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def read_private(path: Path) -> bytes | None:
    """Return the content of a file of the cache, or ``None`` if other users could have written it.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        with _opened(path.parent) as parent:
            return parent.read(path.name)
    except OSError as error:
        error.filename = os.fspath(path)
        raise


def write_private(path: Path, content: bytes) -> None:
    """Write a file of the cache, writable by the user alone whatever the umask is; a link is replaced, not followed.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with _opened(path.parent) as parent:
            parent.write(path.name, content)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error


class _Folder:
    """An open folder, through which its files are reached: another one put in its place has no effect.

    Where the system has no descriptors of folders, its path serves.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor
        found = path.stat() if descriptor is None else os.fstat(descriptor)
        self._is_private = _private(found)

    def names(self) -> list[str]:
        return os.listdir(self._path if self._descriptor is None else self._descriptor)  # noqa: PTH208

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or ``None`` if others could have written it, or put it here by another name."""
        descriptor = os.open(self._place(name), os.O_RDONLY | _NO_LINK, dir_fd=self._descriptor)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            return file.read() if alone and _private(found) and self._is_private else None

    def write(self, name: str, content: bytes) -> None:
        part = f".{uuid.uuid4().hex[:12]}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK
        descriptor = os.open(self._place(part), flags, 0o600, dir_fd=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            here = self._descriptor
            os.replace(self._place(part), self._place(name), src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            self.remove(part)
            raise

    def remove(self, name: str) -> None:
        with suppress(OSError):  # another process may remove the same file
            os.unlink(self._place(name), dir_fd=self._descriptor)

    def touch(self, name: str) -> None:
        with suppress(OSError):
            os.utime(self._place(name), dir_fd=self._descriptor, follow_symlinks=_FOLLOW)

    def facts(self, name: str) -> os.stat_result:
        return os.stat(self._place(name), dir_fd=self._descriptor, follow_symlinks=False)

    def _place(self, name: str) -> str | Path:
        return self._path / name if self._descriptor is None else name


@contextmanager
def _opened(path: Path) -> Iterator[_Folder]:
    """Open a folder, which must not be a link."""
    if not _FOLDER_DESCRIPTORS:
        yield _Folder(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        yield _Folder(path, descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Store:
    """Files of one kind, by name. The least recently used ones are removed.

    Attributes:
        kind: name of the folder in the cache.
        suffix: file name extension, for files that libraries open by path.
        most: number of files to keep.
        most_bytes: bytes to keep; the last file stays whatever its size.
    """

    kind: str
    suffix: str = ""
    most: int = 32
    most_bytes: int = 1 << 30

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return folder(self.kind)

    def find(self, name: str) -> Path | None:
        """Return the file that ``write`` stored under ``name``, if it is private and undamaged, else ``None``."""
        found = self.load(name)
        return found and found[0]

    def read(self, name: str) -> bytes | None:
        """Return the content that ``write`` stored under ``name``, on the same conditions as ``find``."""
        found = self.load(name)
        return found and found[1]

    def load(self, name: str) -> tuple[Path, bytes] | None:
        """Return the file and the content that ``write`` stored under ``name``, on the same conditions as ``find``.

        What is run must be this content: the file may be another one by the time that it is opened again.
        """
        with suppress(OSError), _opened(self.folder) as opened:
            for file in self._named(opened, name):
                with suppress(OSError):
                    content = opened.read(file)
                    if content is None:
                        log.info("%s is not used: other users could have written it", self.folder / file)
                    elif file != self._file(name, content):
                        log.info("%s is not used: it is damaged", self.folder / file)
                    else:
                        opened.touch(file)
                        return self.folder / file, content
        return None

    def write(self, name: str, content: bytes) -> Path:
        """Store ``content`` under ``name``, and return its file.

        Raises:
            InputError: if the cache cannot be written.
        """
        path = make_folder(self.folder) / self._file(name, content)
        write_private(path, content)
        remove_stale_parts(self.folder)
        with suppress(OSError), _opened(self.folder) as opened:
            for other in self._named(opened, name):
                if other != path.name:
                    opened.remove(other)
            self._remove_oldest(opened, path.name)
        return path

    def keep(self, name: str, content: bytes) -> None:
        """Store ``content`` for the next time; where that is not possible, only the log says so."""
        try:
            self.write(name, content)
        except InputError as error:
            log.info("the result is not cached: %s", error)

    def _remove_oldest(self, opened: _Folder, last: str) -> None:
        facts = {it: opened.facts(it) for it in opened.names() if it != last and not it.startswith(".")}
        size, count = opened.facts(last).st_size, 1
        for file in sorted(facts, key=lambda it: facts[it].st_mtime, reverse=True):
            size, count = size + facts[file].st_size, count + 1
            if count > self.most or size > self.most_bytes:
                opened.remove(file)

    def _file(self, name: str, content: bytes) -> str:
        digest = hashlib.sha256(name.encode() + b"\0")
        digest.update(content)
        return f"{name}.{digest.hexdigest()}{self.suffix}"

    @staticmethod
    def _named(opened: _Folder, name: str) -> list[str]:
        return [it for it in opened.names() if it.startswith(f"{name}.")]
