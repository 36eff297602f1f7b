"""Files that appear complete or not at all, files that are safe to open, and names that are safe to print."""

import errno
import io
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lkdn_deploy.core.errors import InputError, LkdnError

_PART = re.compile(r"\.[0-9a-f]{12}\.part(\.\w+)?")
_TEMPORARY = "lkdn-deploy-"
_HOUR, _DAY = 3600.0, 86400.0  # seconds


Seal = Callable[[Path], None]
"""Called with the complete temporary file, just before it takes the place of its target."""


@contextmanager
def publish(path: str | os.PathLike[str], seal: Seal | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``path``, which replaces ``path`` if the block succeeds and is removed if it fails.

    The temporary name keeps the suffix, since libraries choose the format by it. A replaced file's permissions stay.
    What ``seal`` writes down about the file is there before the file is: a program that is killed in between leaves
    a note without its file, but no file without its note.

    Raises:
        InputError: if the file cannot be written, saying why.
    """
    path = Path(path)
    try:
        target = path.resolve()  # a link stays, and the file it points to is replaced
        part = target.with_name(f".{uuid.uuid4().hex[:12]}.part{target.suffix}")
    except (OSError, RuntimeError) as error:
        msg = f"{path} cannot be written: {error}"
        raise InputError(msg) from error
    try:
        yield part
        if target.exists():
            shutil.copymode(target, part)
        if seal is not None:
            seal(part)
        part.replace(target)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
    finally:
        with suppress(OSError):
            part.unlink()


def remove_stale_parts(folder: Path) -> None:
    """Remove temporary files of ``publish`` that a killed process left in ``folder``: those unchanged for an hour.

    The hour is one of the file system's clock, which need not be that of this machine: another may be writing there.
    """
    with suppress(OSError):
        parts = [path for path in folder.iterdir() if _PART.fullmatch(path.name)]
        if not parts:
            return
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"now")
            file.flush()
            now = os.fstat(file.fileno()).st_mtime
        for path in parts:
            with suppress(OSError):
                if now - path.lstat().st_mtime > _HOUR:
                    path.unlink()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder that is removed at the end, and remove those that a killed process left a day ago."""
    for path in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            found = path.lstat()
            mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            if mine and stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > _DAY:
                shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY) as folder:
        yield Path(folder)


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading, unless it is a pipe, a device or the like, whose reading might never end.

    Raises:
        OSError: if it cannot be opened, or is not a regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file: io.BufferedReader = io.BufferedReader(io.FileIO(os.open(path, flags)))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return file


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: if it cannot be read, is not a regular file, or is larger.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes", os.fspath(path))
    return content


@contextmanager
def reading(path: str | os.PathLike[str], kind: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever the reading of a file raises into an error that names the file.

    Args:
        path: the file.
        kind: what it should be, for the message, such as ``a report of lkdn-bench``.
        hint: what to do, where the error itself has no hint.

    Raises:
        LkdnError: of the same kind, in place of another one without the file's name.
        InputError: in place of anything else.
    """
    try:
        yield
    except LkdnError as error:
        msg = f"{os.fspath(path)}: {error.message}"
        raise type(error)(msg, error.hint or hint) from error
    except OSError as error:
        msg = f"{os.fspath(path)} cannot be read: {error.strerror or error}"
        raise InputError(msg, hint) from error
    except MemoryError as error:
        msg = f"{os.fspath(path)} cannot be read: memory ran out"
        raise InputError(msg, hint) from error
    except Exception as error:  # whatever a damaged file makes a parser trip over
        msg = f"{os.fspath(path)} is not {kind}: {str(error).partition(chr(10))[0][:200] or type(error).__name__}"
        raise InputError(msg, hint) from error


def printable(text: str | os.PathLike[str]) -> str:
    """Return a path, or a name from a file, as text that is safe to print.

    Control characters, and bytes of a path that are not UTF-8, become replacement characters.
    """
    return "".join(character if character.isprintable() else "\ufffd" for character in os.fspath(text))
