"""Files that appear whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lkdn_deploy.core.errors import InputError


@contextmanager
def publish(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it.

    The temporary name keeps the suffix, since libraries choose the format by it.

    Raises:
        InputError: if the file cannot be written, saying why.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem[:64]}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
    finally:
        with suppress(OSError):
            part.unlink()
