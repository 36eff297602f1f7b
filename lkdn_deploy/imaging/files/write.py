"""Writing pictures to image files, and finding out beforehand whether that is possible."""

import os
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import Seal, printable, publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.imaging.bands import Bands
from lkdn_deploy.imaging.files.compression import DeflateError
from lkdn_deploy.imaging.files.directory import EXIF_DIRECTORY
from lkdn_deploy.imaging.files.exif import MAKER_NOTE, parse_exif, resized_exif
from lkdn_deploy.imaging.files.formats import ImageFormat, format_for
from lkdn_deploy.imaging.files.picture import Chunk, Description, Picture, profile_fits, to_eight_bits

DEFAULT_QUALITY = 95
_MAX_SEGMENT = 65533  # bytes of a JPEG file's segment
_MAX_IPTC = _MAX_SEGMENT - 27  # less the head of the resource that holds it
_SRGB_GAMMA = struct.pack(">I", 45455)
_SRGB_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def check_target(path: str | os.PathLike[str], *, quality: int | None = None, overwrite: bool = False) -> None:
    """Check, before any work, the place, format and quality of a file to be written.

    Args:
        path: the file; its suffix chooses the format.
        quality: 1 to 100, for lossy formats only; None is ``DEFAULT_QUALITY``. 100 makes WebP and JPEG XL lossless.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: for an unknown suffix, a quality that the format does not have, a file that exists, a folder, and a
            parent folder that does not exist.
        InputError: if no file can be written there.
    """
    path = Path(path)
    _check_place(path, overwrite=overwrite)
    _check_quality(format_for(path), quality)


def check_fit(path: str | os.PathLike[str], *, width: int, height: int, channels: int, depth: int) -> None:
    """Check, before it is made, that the format of ``path`` can hold a picture.

    Args:
        path: the file; its suffix chooses the format.
        width, height: of the picture, in pixels.
        channels, depth: of the picture, as in ``Header``.

    Raises:
        UsageError: for an unknown suffix, and if the picture is too large or its transparency would be lost.
    """
    path = Path(path)
    kind = format_for(path)
    if channels in (2, 4) and not kind.alpha:
        msg = f"{path} would lose the picture's transparency, which {kind.name} files do not hold"
        raise UsageError(msg, "use .png, .webp or .tif")
    if max(width, height) > kind.max_side:
        msg = f"{path} would be {width}×{height}; {kind.name} files hold at most {kind.max_side} pixels a side"
        raise UsageError(msg, "use .tif" if kind.name == "PNG" else "use .png or .tif")
    size = (width * channels + 3) * height * (16 if min(depth, kind.depth) > 8 else 8) // 8
    if kind.max_bytes is not None and size > kind.max_bytes:
        msg = f"{path} would be {width}×{height}, {size:,} bytes; {kind.name} files hold at most 4 GiB"
        raise UsageError(msg, "use .png")


def write_picture(
    path: str | os.PathLike[str],
    picture: Picture,
    *,
    quality: int | None = None,
    threads: int | None = None,
    seal: Seal | None = None,
) -> tuple[str, ...]:
    """Write a picture in memory, as ``write_bands`` writes one of which only bands are.

    Returns:
        Notes on what the file does not hold of the picture, a sentence each.

    Raises:
        LkdnError: as ``write_bands`` does.
    """
    return write_bands(path, picture.description, (picture.pixels,), quality=quality, threads=threads, seal=seal)


def write_bands(
    path: str | os.PathLike[str],
    description: Description,
    bands: Bands,
    *,
    quality: int | None = None,
    threads: int | None = None,
    seal: Seal | None = None,
) -> tuple[str, ...]:
    """Write a picture as its rows come, replacing what is at ``path``; the file appears whole or not at all.

    PNG, TIFF and JPEG files are written as the rows come, a few of which are held in memory; for other formats, the
    rows are collected first. What is written does not depend on the heights of the bands.

    PNG, TIFF and BMP are lossless, and WebP and JPEG XL are at quality 100; JPEG and AVIF keep full colour resolution
    (4:4:4). Metadata is kept where the format can hold it; sizes in EXIF become those of the picture.

    Args:
        path: the file; its suffix chooses the format.
        description: the picture but for its pixels.
        bands: its rows, from top to bottom, in bands of any heights. An ``LkdnError`` of this iterator passes
            through, and no file is left.
        quality: as in ``check_target``.
        threads: CPU threads that encode PNG, TIFF and JPEG, on which the bytes do not depend; default: all cores.
        seal: called with the complete temporary file before it takes its place, as ``publish`` does.

    Returns:
        Notes on what the file does not hold of the picture, a sentence each.

    Raises:
        UsageError: for an unknown suffix, a picture that the format cannot hold, a quality that it does not have.
        InputError: if the file cannot be written; no part of it is left.
        MissingError: for JPEG, JPEG XL and 16-bit AVIF where imagecodecs is not installed.
    """
    path = Path(path)
    reduced, notes = _prepared(path, description, quality)
    with publish(path, seal) as part, part.open("wb") as file:
        _encode(file, path, reduced, bands, quality, threads)
    return notes


def encode_bands(
    file: IO[bytes],
    name: str,
    description: Description,
    bands: Bands,
    *,
    quality: int | None = None,
    threads: int | None = None,
) -> tuple[str, ...]:
    """Write a picture into an open file, such as one in memory, as ``write_bands`` writes it to a path.

    Args:
        file: what to write to; it can be sought.
        name: what messages call it; its suffix chooses the format.
        description, bands, quality, threads: as in ``write_bands``.

    Returns:
        Notes on what the file does not hold of the picture, a sentence each.

    Raises:
        LkdnError: as ``write_bands`` does.
    """
    path = Path(name)
    reduced, notes = _prepared(path, description, quality)
    _encode(file, path, reduced, bands, quality, threads)
    return notes


def _prepared(path: Path, description: Description, quality: int | None) -> tuple[Description, tuple[str, ...]]:
    """Check that the format of ``path`` can hold a picture; return what it holds of it, and notes on the rest."""
    header = description.header
    check_fit(path, width=header.width, height=header.height, channels=header.channels, depth=header.depth)
    kind = format_for(path)
    _check_quality(kind, quality)
    return _reduced(description, kind)


def _encode(
    file: IO[bytes], path: Path, reduced: Description, bands: Bands, quality: int | None, threads: int | None
) -> None:
    kind = format_for(path)
    assert kind.write is not None  # noqa: S101  as it has a suffix
    if reduced.header.depth == 8:
        bands = map(to_eight_bits, bands)
    try:
        kind.write(file, reduced, bands, DEFAULT_QUALITY if quality is None else quality, threads or cores())
    except (ValueError, RuntimeError, OverflowError, MemoryError, struct.error, DeflateError) as error:
        msg = f"{path} cannot be written: {str(error) or type(error).__name__}"
        raise InputError(msg) from error


def _reduced(picture: Description, kind: ImageFormat) -> tuple[Description, tuple[str, ...]]:
    """Drop from a picture what the format cannot hold; return it with a note on each thing dropped."""
    header, icc_profile, exif, xmp = picture.header, picture.icc_profile, picture.exif, picture.xmp
    notes = []
    if header.depth > kind.depth:
        more = f"as {kind.name} files hold no more; .png and .tif do"
        notes.append(f"reduced from {header.depth} to {kind.depth} bits per sample, {more}")
    # The encoder of such files takes no metadata.
    bare = kind.name == "AVIF" and header.depth > 8
    if kind.depth == 8:
        header = replace(header, depth=8)  # formats of other depths convert the samples themselves
    channels = header.channels if kind.grey else 3
    if icc_profile is not None and not (kind.profile and not bare and profile_fits(icc_profile, channels)):
        icc_profile = None
        notes.append(f"the colour profile was left out: it does not fit a {kind.name} file of this picture")
    if exif is not None and len(exif) > kind.max_exif:
        exif = None
        limit = f"hold at most {kind.max_exif} bytes of it" if kind.max_exif else "have none"
        notes.append(f"the EXIF block was left out: {kind.name} files {limit}")
    if exif is not None and bare:
        exif = None
        notes.append("the EXIF block was left out: AVIF files of 12 bits are written without")
    if exif is not None:
        exif = resized_exif(exif, header.width, header.height)
        inner = parse_exif(exif).get(EXIF_DIRECTORY) if kind.moves_exif else None
        if isinstance(inner, dict) and MAKER_NOTE in inner:
            notes.append("the camera's maker notes were moved: not every program can read them there")
    if xmp is not None and (bare or len(xmp) > kind.max_xmp):
        xmp = None
        notes.append(f"the XMP packet was left out: {kind.name} files of this kind do not hold it")
    iptc = picture.iptc
    if iptc is not None and not (kind.iptc and (kind.name != "JPEG" or len(iptc) <= _MAX_IPTC)):
        iptc = None
        notes.append(f"the IPTC records were left out: {kind.name} files do not hold them")
    texts = tuple(chunk for chunk in picture.texts if kind.texts is None or _fits_as_comment(chunk, kind))
    if lost := sorted({_keyword(chunk) for chunk in picture.texts if chunk not in texts}):
        notes.append(f"texts were left out, for which {kind.name} files have no place: {', '.join(lost)}")
    colour = picture.colour if kind.colour == "all" else ()
    if kind.colour == "cICP" and bare:
        colour = tuple(chunk for chunk in picture.colour if chunk[0] == b"cICP")
    if picture.colour and not colour and icc_profile is None and not _is_srgb(picture.colour):
        names = ", ".join(name.decode() for name, _ in picture.colour)
        notes.append(f"the colour space ({names}) was left out, for which {kind.name} files have no place: use .png")
    reduced = replace(
        picture, header=header, icc_profile=icc_profile, exif=exif, xmp=xmp, iptc=iptc, texts=texts, colour=colour
    )
    return reduced, tuple(notes)


def _fits_as_comment(chunk: Chunk, kind: ImageFormat) -> bool:
    name, data = chunk
    return name == b"tEXt" and data.split(b"\0")[0] in (kind.texts or ()) and len(data) <= _MAX_SEGMENT


def _keyword(chunk: Chunk) -> str:
    return printable(chunk[1].split(b"\0")[0][:79].decode("latin-1"))


def _is_srgb(colour: tuple[Chunk, ...]) -> bool:
    """Return whether chunks say no more than that the picture is in sRGB, which readers take for granted."""
    found = dict(colour)
    if b"cICP" in found:
        return found[b"cICP"][:2] == bytes((1, 13))
    if b"sRGB" in found:
        return True
    gamma, points = found.get(b"gAMA", _SRGB_GAMMA), found.get(b"cHRM", _SRGB_POINTS)
    near = abs(int.from_bytes(gamma, "big") - int.from_bytes(_SRGB_GAMMA, "big")) < 100
    pairs = zip(struct.unpack(">8I", points), struct.unpack(">8I", _SRGB_POINTS), strict=True)
    return near and all(abs(one - other) < 100 for one, other in pairs)


def _check_quality(kind: ImageFormat, quality: int | None) -> None:
    if quality is None:
        return
    if not kind.lossy:
        msg = f"{kind.name} files are lossless and have no quality, but {quality} was asked for"
        raise UsageError(msg, "leave the quality out, or use .jpg, .webp, .avif or .jxl")
    if not 1 <= quality <= 100:
        msg = f"expected a quality from 1 to 100, got {quality}"
        raise UsageError(msg)


def _check_place(path: Path, *, overwrite: bool) -> None:
    try:
        if path.is_dir():
            msg = f"{path} is a folder; expected the name of a file to write"
            raise UsageError(msg)
        if not path.parent.is_dir():
            msg = f"{path} cannot be written: there is no folder {path.parent}"
            raise UsageError(msg, "make the folder first")
        exists = os.path.lexists(path)  # a link that leads nowhere is something too
        if exists and not overwrite:
            msg = f"{path} exists"
            raise UsageError(msg, "choose another name, replace it with --overwrite, or leave it with --skip-existing")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            msg = f"{path} cannot be overwritten: it is not a file that may be written"
            raise InputError(msg)
        # Asking for permission bits would miss read-only and special file systems. This leaves no file.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
