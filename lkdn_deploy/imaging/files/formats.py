"""The one table of image formats: what opens and writes their files, and what these can hold.

To add a format, add a row to ``FORMATS``. If Pillow reads and writes all of it, ``open_with_pillow`` and a writer in
``pillow`` are enough; if not, it gets a module like ``png``, ``jpeg`` or ``tiff``. The tests in ``tests/imaging/files``
take the table's formats by themselves where they can, and name them where they cannot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.files import png, tiff
from lkdn_deploy.imaging.files.jpeg import write_jpeg
from lkdn_deploy.imaging.files.picture import OpenedImage, Picture
from lkdn_deploy.imaging.files.pillow import open_with_pillow, write_bmp, write_webp


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A file format.

    Only formats whose every sample can be read belong here; others would lose bits unnoticed, or run programs (EPS).

    Attributes:
        name: as messages print it.
        signatures: the ways in which its files begin.
        open: reads a file's header; returns it with a function that decodes the file.
        write: writes a picture, given the file, the picture, a quality and a number of threads; None if files of this
            format are only read.
        suffixes: of file names.
        max_side: most pixels a side that can be written.
        max_bytes: most bytes of uncompressed samples that can be written.
        deep: whether it holds 16 bits per sample, and not only 8.
        alpha: whether it holds transparency.
        grey: whether it holds grey; if not, grey pictures become RGB.
        lossy: whether it has a quality.
        profile: whether it holds a colour profile.
        max_exif: most bytes of an EXIF block; 0 if it holds none.
        in_stripes: whether it is written part by part, so that no encoded copy of the picture is held in memory.
    """

    name: str
    signatures: tuple[bytes, ...]
    open: Callable[[IO[bytes]], OpenedImage]
    write: Callable[[IO[bytes], Picture, int, int], None] | None = None
    suffixes: tuple[str, ...] = ()
    max_side: int = 2**31 - 1
    max_bytes: int | None = None
    deep: bool = False
    alpha: bool = True
    grey: bool = True
    lossy: bool = False
    profile: bool = True
    max_exif: int = 2**31 - 1
    in_stripes: bool = False


FORMATS = (
    ImageFormat("PNG", (png.SIGNATURE,), png.open_png, png.write_png, (".png",), deep=True, in_stripes=True),
    ImageFormat(
        "JPEG",
        (b"\xff\xd8\xff",),
        partial(open_with_pillow, "JPEG"),
        write_jpeg,
        (".jpg", ".jpeg"),
        max_side=65500,  # libjpeg's limit, not the format's 65535
        alpha=False,
        lossy=True,
        max_exif=65533,  # one segment, less its length field
        in_stripes=True,
    ),
    ImageFormat(
        "WebP",
        (b"RIFF",),
        partial(open_with_pillow, "WEBP"),
        write_webp,
        (".webp",),
        max_side=16383,
        grey=False,
        lossy=True,
    ),
    ImageFormat(
        "TIFF",
        tiff.SIGNATURES,
        tiff.open_tiff,
        tiff.write_tiff,
        (".tif", ".tiff"),
        max_bytes=2**32 - 2**26,  # it counts in 32 bits; the rest is for directories, profile and EXIF
        deep=True,
    ),
    ImageFormat(
        "BMP",
        (b"BM",),
        partial(open_with_pillow, "BMP"),
        write_bmp,
        (".bmp",),
        max_bytes=2**32 - 2**11,
        alpha=False,  # later versions of its header have it, but readers, Pillow's included, take it for padding
        profile=False,
        max_exif=0,
    ),
    ImageFormat("GIF", (b"GIF87a", b"GIF89a"), partial(open_with_pillow, "GIF")),
)

BY_SUFFIX = {suffix: kind for kind in FORMATS for suffix in kind.suffixes}
"""The formats that can be written, by suffix in lower case."""

SIGNATURE_SIZE = max(len(signature) for kind in FORMATS for signature in kind.signatures)
"""Bytes of a file by which its format is recognised."""


def format_for(path: Path) -> ImageFormat:
    """Return the format that a file of this name is written in.

    Raises:
        UsageError: if its suffix names none.
    """
    kind = BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        msg = f"{path} has the suffix {path.suffix!r}, which names no format that can be written"
        raise UsageError(msg, f"use one of {' '.join(BY_SUFFIX)}")
    return kind


def format_of(start: bytes) -> ImageFormat | None:
    """Return the format of a file by its first ``SIGNATURE_SIZE`` bytes; None if it is none of the table's."""
    return next((kind for kind in FORMATS if start.startswith(kind.signatures)), None)
