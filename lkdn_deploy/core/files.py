"""Files that appear complete or not at all, and names that are safe to print."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lkdn_deploy.core.errors import InputError


@contextmanager
def publish(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, which replaces ``path`` if the block succeeds and is removed if it fails.

    The temporary name keeps the suffix, since libraries choose the format by it. A replaced file's permissions stay.

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
        part.replace(target)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
    finally:
        with suppress(OSError):
            part.unlink()


def printable(text: str | os.PathLike[str]) -> str:
    """Return a path, or a name from a file, as text that is safe to print.

    Control characters, and bytes of a path that are not UTF-8, become replacement characters.
    """
    return "".join(character if character.isprintable() else "\ufffd" for character in os.fspath(text))
