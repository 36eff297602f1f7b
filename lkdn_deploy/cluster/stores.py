"""Folders and files that fsspec opens by their URLs."""

import posixpath
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.optional import needs
from lkdn_deploy.runtime.inputs import FOLDER, NotTaken, SourceFile, kind_of_file

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z][A-Za-z0-9+.-]+)*://")

MOST_BYTES = 4 << 30
"""Limit of a picture's file."""
_PIECE = 1 << 20


def is_url(text: str) -> bool:
    """Return whether a text is a URL, and no path."""
    return _URL.match(text) is not None


def local_path(text: str) -> str:
    """Return the path of a ``file://`` URL; other texts as they are."""
    scheme = "file://"
    return text[len(scheme) :] if text.lower().startswith(f"{scheme}/") else text


def split_url(url: str) -> tuple[str, str]:
    """Return the URL of the folder that a file is in, and the file's name.

    Raises:
        UsageError: if the URL names no file.
    """
    first, mark, others = url.partition("::")
    folder, _, name = first.rpartition("/")
    if not name or folder.endswith(":/") or name in (".", ".."):
        msg = f"{url} names no file"
        raise UsageError(msg, "name a file, or a folder that exists")
    return folder + mark + others, name


class StoreFolder:
    """A folder, or what fsspec makes look like one; or a file.

    It can be pickled, and connects when it is used.

    Args:
        url: the URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self._opened: tuple[Any, str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreFolder, (self.url,)

    def is_folder(self) -> bool:
        """Return whether it is a folder.

        Raises:
            LkdnError: if that cannot be told.
        """
        with self._named():
            system, root = self._connection()
            return bool(system.isdir(root))

    def search(self, recursive: bool) -> tuple[list[SourceFile], list[NotTaken]]:
        """List the files, as those of a folder on a file system: pictures by name, and all else.

        The paths are relative to the folder.

        Args:
            recursive: whether the folders inside of it are searched, too.

        Raises:
            LkdnError: if it cannot be listed.
        """
        with self._named():
            system, root = self._connection()
            entries = list(system.find(root, detail=True).values()) if recursive else system.ls(root, detail=True)
        files: list[SourceFile] = []
        others: list[NotTaken] = []
        prefix = f"{root.rstrip('/')}/"
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            name = str(entry["name"])
            relative = name.removeprefix(prefix).rstrip("/")
            parts = relative.split("/")
            if not name.startswith(prefix) or not relative:
                continue
            if {"", ".", ".."} & {*parts} or "\0" in relative or "\\" in relative:
                others.append(NotTaken(Path(f"{self.url}/{printable(relative)}"), "name that leads elsewhere"))
            elif entry.get("type") == "directory":
                others += [] if recursive else [NotTaken(Path(relative), FOLDER)]
            elif any(part.startswith(".") for part in parts[:-1]):
                others.append(NotTaken(Path(relative), "hidden"))
            elif kind_or_none := kind_of_file(parts[-1]):
                others.append(NotTaken(Path(relative), kind_or_none))
            else:
                files.append(SourceFile(Path(relative), PurePath(relative)))
        return files, others

    def names(self) -> list[str]:
        """Return the names of the files in the folder itself; none if there is no such folder.

        Raises:
            LkdnError: if it cannot be listed.
        """
        with self._named():
            system, root = self._connection()
            system.invalidate_cache()  # another machine may have written some since
            try:
                entries = system.ls(root, detail=True)
            except FileNotFoundError:
                return []
            return [posixpath.basename(str(entry["name"])) for entry in entries if entry.get("type") != "directory"]

    def exists(self, relative: str) -> bool:
        """Return whether there is such a file.

        Raises:
            LkdnError: if that cannot be told.
        """
        with self._named(relative):
            system, _ = self._connection()
            system.invalidate_cache()
            return bool(system.exists(self._path(relative)))

    def download(self, relative: str, target: Path, most: int = MOST_BYTES) -> int:
        """Copy a file of at most ``most`` bytes to ``target``, and return its size.

        Raises:
            LkdnError: if it cannot be read, or is larger.
        """
        with self._named(relative):
            system, _ = self._connection()
            left = most
            target.parent.mkdir(parents=True, exist_ok=True)
            with system.open(self._path(relative), "rb") as source, target.open("wb") as file:
                while piece := source.read(min(_PIECE, left + 1)):
                    left -= len(piece)
                    if left < 0:
                        msg = f"it is larger than {most:,} bytes"
                        raise InputError(msg)
                    file.write(piece)
            return most - left

    def upload(self, source: Path, relative: str) -> None:
        """Copy ``source`` into the folder; it appears whole or not at all.

        Raises:
            LkdnError: if it cannot be written.
        """
        with self._named(relative), source.open("rb") as file:
            self._put(relative, file.read)

    def write(self, relative: str, content: bytes) -> None:
        """Write a small file; it appears whole or not at all.

        Raises:
            LkdnError: if it cannot be written.
        """
        pieces = [b"", content]
        with self._named(relative):
            self._put(relative, lambda _: pieces.pop())

    def _put(self, relative: str, read: Any) -> None:
        system, _ = self._connection()
        target = self._path(relative)
        folder, name = posixpath.split(target)
        # Not every store shows a file only when it is complete.
        part = posixpath.join(folder, f".{uuid.uuid4().hex[:12]}.part{posixpath.splitext(name)[1]}")
        system.makedirs(folder, exist_ok=True)
        try:
            with system.open(part, "wb") as file:
                while piece := read(_PIECE):
                    file.write(piece)
            system.mv(part, target)
        except BaseException:
            with suppress(Exception):
                system.rm_file(part)
            raise

    def _path(self, relative: str) -> str:
        root = self._connection()[1].rstrip("/")
        return f"{root}/{relative}" if relative else root

    def _connection(self) -> tuple[Any, str]:
        if self._opened is None:
            with needs("ray"):
                from fsspec.core import url_to_fs
            self._opened = url_to_fs(self.url)
        return self._opened

    @contextmanager
    def _named(self, relative: str = "") -> Iterator[None]:
        """Turn whatever goes wrong into an error that names the URL: each store has errors of its own."""
        url = f"{self.url}/{relative}" if relative else self.url
        try:
            yield
        except MissingError:
            raise
        except LkdnError as error:
            msg = f"{url}: {error.message}"
            raise type(error)(msg, error.hint) from error
        except ImportError as error:
            msg = f"{url} cannot be opened: {error}"
            raise MissingError(msg, "install the fsspec package of this kind of store on all machines") from error
        except FileNotFoundError as error:
            msg = f"{url} does not exist"
            raise InputError(msg) from error
        except Exception as error:
            said = str(error).strip().partition("\n")[0][:300] or type(error).__name__
            msg = f"{url} cannot be read or written: {said}"
            raise InputError(msg) from error
