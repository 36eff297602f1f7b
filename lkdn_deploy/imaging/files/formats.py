"""The one table of image formats: what opens and writes their files, and what these can hold.

To add a format, add a row to ``FORMATS``. If Pillow reads and writes all of it, ``open_with_pillow`` and a writer in
``pillow`` are enough; if not, it gets a module like ``png``, ``jpeg`` or ``tiff``. The tests in ``tests/imaging/files``
take the table's formats by themselves where they can, and name them where they cannot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.bands import Bands
from lkdn_deploy.imaging.files import avif, heif, jxl, png, tiff
from lkdn_deploy.imaging.files.jpeg import write_jpeg
from lkdn_deploy.imaging.files.picture import Description, OpenedImage, refuse_raw
from lkdn_deploy.imaging.files.pillow import open_with_pillow, write_bmp, write_webp


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A file format.

    Only formats whose every sample can be read belong here; others would lose bits unnoticed, or run programs (EPS).

    Attributes:
        name: as messages print it.
        signatures: the ways in which its files begin.
        open: reads a file's header; returns it with a function that decodes the file.
        write: writes a picture, given the file, the description, the bands of rows, a quality and a number of threads;
            None if files of this format are only read.
        suffixes: of file names in which it is written; files are read by their content.
        read_only: further suffixes by which files of a folder are taken.
        brands: of ISO media files, by which its files are recognised instead of by a signature.
        max_side: most pixels a side that can be written.
        max_bytes: most bytes of uncompressed samples that can be written.
        depth: most bits per sample.
        alpha: whether it holds transparency.
        grey: whether it holds grey; if not, grey pictures become RGB.
        lossy: whether it has a quality.
        profile: whether it holds a colour profile.
        max_exif: most bytes of an EXIF block; 0 if it holds none.
        max_xmp: most bytes of an XMP packet; 0 if it holds none.
        iptc: whether it holds IPTC records.
        texts: keywords of the texts that it holds; None for any.
        colour: facts on the colour space that it holds beside a profile, by the names of PNG's chunks.
        moves_exif: whether EXIF tags move within the file, which maker notes do not survive.
        in_stripes: whether it is written part by part, so that neither the picture nor an encoded copy of it is held in
            memory.
    """

    name: str
    signatures: tuple[bytes, ...]
    open: Callable[[IO[bytes]], OpenedImage]
    write: Callable[[IO[bytes], Description, Bands, int, int], None] | None = None
    suffixes: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    brands: tuple[bytes, ...] = ()
    max_side: int = 2**31 - 1
    max_bytes: int | None = None
    depth: int = 8
    alpha: bool = True
    grey: bool = True
    lossy: bool = False
    profile: bool = True
    max_exif: int = 2**31 - 1
    max_xmp: int = 2**31 - 1
    iptc: bool = False
    texts: tuple[bytes, ...] | None = ()
    colour: Literal["all", "cICP", "none"] = "none"
    moves_exif: bool = False
    in_stripes: bool = False


FORMATS = (
    ImageFormat(
        "PNG",
        (png.SIGNATURE,),
        png.open_png,
        png.write_png,
        (".png",),
        read_only=(".apng",),
        depth=16,
        texts=None,
        colour="all",
        in_stripes=True,
    ),
    ImageFormat(
        "JPEG",
        (b"\xff\xd8\xff",),
        partial(open_with_pillow, "JPEG"),
        write_jpeg,
        (".jpg", ".jpeg", ".jfif", ".jpe"),
        read_only=(".mpo",),
        max_side=65500,  # libjpeg's limit, not the format's 65535
        alpha=False,
        lossy=True,
        max_exif=65533,  # one segment, less its length field
        max_xmp=65504 - 2,
        iptc=True,
        texts=(b"Comment",),
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
        depth=16,
        iptc=True,
        moves_exif=True,
        in_stripes=True,
    ),
    ImageFormat(
        "BMP",
        (b"BM",),
        partial(open_with_pillow, "BMP"),
        write_bmp,
        (".bmp",),
        read_only=(".dib",),
        max_bytes=2**32 - 2**11,
        alpha=False,  # later versions of its header have it, but readers, Pillow's included, take it for padding
        profile=False,
        max_exif=0,
        max_xmp=0,
    ),
    ImageFormat(
        "AVIF",
        (),
        avif.open_avif,
        avif.write_avif,
        (".avif",),
        brands=avif.BRANDS,
        max_side=16384,
        depth=12,
        grey=False,
        lossy=True,
        colour="cICP",
    ),
    ImageFormat(
        "JPEG XL",
        jxl.SIGNATURES,
        jxl.open_jxl,
        jxl.write_jxl,
        (".jxl",),
        max_side=2**18,
        depth=16,
        lossy=True,
        profile=False,
    ),
    ImageFormat("GIF", (b"GIF87a", b"GIF89a"), partial(open_with_pillow, "GIF"), read_only=(".gif",)),
    ImageFormat("HEIC", (), heif.open_heif, read_only=(".heic", ".heif", ".hif"), brands=heif.BRANDS),
)

BY_SUFFIX = {suffix: kind for kind in FORMATS for suffix in kind.suffixes}
"""The formats that can be written, by suffix in lower case."""

READABLE = frozenset(suffix for kind in FORMATS for suffix in (*kind.suffixes, *kind.read_only))
"""The suffixes, in lower case, of files that can be read."""

RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf"),
        *("pef", "raf", "raw", "rw2", "sr2", "srf", "srw", "x3f"),
    )
)
"""The suffixes, in lower case, of files of cameras' sensor data, which are not read."""

_RAW = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM")

SIGNATURE_SIZE = 64
"""Bytes of a file by which its format is recognised."""


def format_for(path: Path) -> ImageFormat:
    """Return the format that a file of this name is written in.

    Raises:
        UsageError: if its suffix names none.
    """
    kind = BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        if not path.suffix:
            msg = f"{path} has no suffix, which would choose the format"
            raise UsageError(msg, f"use one of {' '.join(BY_SUFFIX)}, or end the name of a folder with a slash")
        msg = f"{path} has the suffix {path.suffix!r}, which names no format that can be written"
        raise UsageError(msg, f"use one of {' '.join(BY_SUFFIX)}")
    return kind


def format_of(start: bytes) -> ImageFormat | None:
    """Return the format of a file by its first ``SIGNATURE_SIZE`` bytes; None if it is none of the table's.

    Raises:
        InputError: for camera raw files.
    """
    brands: set[bytes] = set()
    if start[4:8] == b"ftyp":
        end = min(int.from_bytes(start[:4], "big"), len(start))
        brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    refuse_raw(start.startswith(_RAW) or b"crx " in brands, "")
    return next((kind for kind in FORMATS if start.startswith(kind.signatures) or brands & {*kind.brands}), None)
