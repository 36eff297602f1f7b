"""Reads damaged images as their headers promise, and writes what they hold again."""

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from fuzzing import damaged

from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.imaging.files.picture import Header
from lkdn_deploy.imaging.files.read import memory_in_parts, open_rows, probe, read_picture
from lkdn_deploy.imaging.files.write import write_picture


def damaged_one(sources: Sequence[bytes], source: random.Random) -> bytes:
    """Return one of the files, damaged."""
    return damaged(source.choice(sources), source)


def read_in_parts(path: Path) -> None:
    """Read the rows of a file that can be read in parts, as far as an upscaler with some memory would."""
    if (memory := memory_in_parts(path)) is not None and memory < 1 << 24:
        with open_rows(path) as (_, rows):
            for top in range(0, min(rows.shape[0], 64), 7):
                rows.read(top, min(top + 9, rows.shape[0]))


def read_and_write(path: Path, source: random.Random) -> str:
    """Read a file as its header promises, and write and read the picture again."""
    with suppress(LkdnError):
        read_in_parts(path)
    try:
        header, picture = probe(path), read_picture(path)
    except LkdnError as error:
        return "refused" if error.message.rstrip(": \n") == error.message else f"! no reason: {error.message[-60:]!r}"
    if Header(picture.width, picture.height, picture.channels, picture.depth) != header:
        return "! another picture than the header promises"
    if picture.width * picture.height > 20000:
        return "a large picture"
    for suffix in (".png", ".tif"):
        target = path.with_name(f"copy{suffix}")
        write_picture(target, picture, threads=1)
        if not np.array_equal(read_picture(target).pixels, picture.pixels):
            return f"! another picture in {suffix}"
    return "a picture"
