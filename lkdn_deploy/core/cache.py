"""The user's cache: the one place for compiled code, converted checkpoints, rewritten graphs, engines and downloads.

Some of what is found there is executed. As Python does with its own compiled files, the cache is trusted as far as its
folder is: folder and file must belong to the user and be writable by nobody else. A file of a `Store` carries the
SHA-256 of its content in its name, so a damaged one is never used.
"""

import hashlib
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish

log = logging.getLogger(__name__)


def folder(kind: str) -> Path:
    """Return the folder for one kind of file, which need not exist yet; ``XDG_CACHE_HOME`` moves it."""
    return platformdirs.user_cache_path("lkdn-deploy") / kind


def make_folder(path: Path) -> Path:
    """Create a folder of the cache, writable by the user alone, and return it.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the cache folder {path} cannot be created: {error.strerror}"
        raise InputError(msg, "set XDG_CACHE_HOME to a folder that can be written") from error
    return path


def is_private(path: Path) -> bool:
    """Return whether nobody but this user, and the system's own accounts, can have written ``path``.

    Raises:
        OSError: if it does not exist.
    """
    if sys.platform == "win32":  # the cache lies in the user's profile, whose access rights ensure it
        return True
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of the cache, writable by the user alone whatever the umask is.

    Raises:
        InputError: if it cannot be written.
    """
    with suppress(OSError):  # a file that is replaced passes on its permissions
        path.chmod(0o600)
    with publish(path) as part:
        part.touch(0o600)
        part.write_bytes(content)


@dataclass(frozen=True, slots=True)
class Store:
    """Files of one kind, by name. The least recently used ones are removed.

    Attributes:
        kind: name of the folder in the cache.
        suffix: file name extension, for files that libraries open by path.
        most: number of files to keep.
    """

    kind: str
    suffix: str = ""
    most: int = 32

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return folder(self.kind)

    def find(self, name: str) -> Path | None:
        """Return the file that ``write`` stored under ``name``, if it is private and undamaged, else ``None``."""
        return next((path for path, _ in self._found(name)), None)

    def read(self, name: str) -> bytes | None:
        """Return the content that ``write`` stored under ``name``, on the same conditions as ``find``."""
        return next((content for _, content in self._found(name)), None)

    def write(self, name: str, content: bytes) -> Path:
        """Store ``content`` under ``name``, and return its file.

        Raises:
            InputError: if the cache cannot be written.
        """
        path = make_folder(self.folder) / f"{name}.{hashlib.sha256(content).hexdigest()}{self.suffix}"
        write_private(path, content)
        with suppress(OSError):  # another process may remove the same files
            for other in self._named(name):
                if other != path:
                    other.unlink()
            files = sorted(self.folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in files[self.most :]:
                file.unlink()
        return path

    def keep(self, name: str, content: bytes) -> None:
        """Store ``content`` for the next time; where that is not possible, only the log says so."""
        try:
            self.write(name, content)
        except InputError as error:
            log.info("the result is not cached: %s", error)

    def _named(self, name: str) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name.startswith(f"{name}.")]

    def _found(self, name: str) -> Iterator[tuple[Path, bytes]]:
        """Yield each private, undamaged file of ``name`` with its content."""
        with suppress(OSError):
            for path in self._named(name):
                if not (is_private(path.parent) and is_private(path)):
                    log.info("%s is not used: other users could have written it", path)
                    continue
                content = path.read_bytes()
                if path.name != f"{name}.{hashlib.sha256(content).hexdigest()}{self.suffix}":
                    log.info("%s is not used: it is damaged", path)
                    continue
                os.utime(path)
                yield path, content
