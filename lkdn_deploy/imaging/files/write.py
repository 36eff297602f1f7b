"""Writing pictures to image files, and finding out beforehand whether that is possible."""

import os
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.imaging.files.compression import DeflateError
from lkdn_deploy.imaging.files.formats import ImageFormat, format_for
from lkdn_deploy.imaging.files.picture import Picture, profile_fits, to_eight_bits

DEFAULT_QUALITY = 95


def check_target(path: str | os.PathLike[str], *, quality: int | None = None, overwrite: bool = False) -> None:
    """Check, before any work, the place, format and quality of a file to be written.

    Args:
        path: the file; its suffix chooses the format.
        quality: 1 to 100, for JPEG and WebP only; None is ``DEFAULT_QUALITY``. 100 makes WebP lossless.
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
    size = (width * channels + 3) * height * (depth if kind.deep else 8) // 8
    if kind.max_bytes is not None and size > kind.max_bytes:
        msg = f"{path} would be {width}×{height}, {size:,} bytes; {kind.name} files hold at most 4 GiB"
        raise UsageError(msg, "use .png")


def write_picture(
    path: str | os.PathLike[str], picture: Picture, *, quality: int | None = None, threads: int | None = None
) -> tuple[str, ...]:
    """Write ``picture``, replacing what is at ``path``; the file appears whole or not at all.

    PNG, TIFF and BMP are lossless, and WebP is at quality 100; JPEG keeps full colour resolution (4:4:4).
    Profile, EXIF and resolution are kept where the format can hold them.

    Args:
        path: the file; its suffix chooses the format.
        picture: what to write.
        quality: as in ``check_target``.
        threads: CPU threads that encode PNG, TIFF and JPEG, on which the bytes do not depend; default: all cores.

    Returns:
        Notes on what the file does not hold of the picture, a sentence each.

    Raises:
        UsageError: for an unknown suffix, a picture that the format cannot hold, a quality that it does not have.
        InputError: if the file cannot be written; no part of it is left.
        MissingError: for JPEG where imagecodecs is not installed.
    """
    path = Path(path)
    kind = format_for(path)
    check_fit(path, width=picture.width, height=picture.height, channels=picture.channels, depth=picture.depth)
    _check_quality(kind, quality)
    reduced, notes = _reduced(picture, kind)
    assert kind.write is not None  # noqa: S101  as it has a suffix
    with publish(path) as part:
        try:
            with part.open("wb") as file:
                kind.write(file, reduced, DEFAULT_QUALITY if quality is None else quality, threads or cores())
        except (ValueError, RuntimeError, OverflowError, MemoryError, struct.error, DeflateError) as error:
            msg = f"{path} cannot be written: {str(error) or type(error).__name__}"
            raise InputError(msg) from error
    return notes


def _reduced(picture: Picture, kind: ImageFormat) -> tuple[Picture, tuple[str, ...]]:
    """Drop from a picture what the format cannot hold; return it with a note on each thing dropped."""
    pixels, icc_profile, exif = picture.pixels, picture.icc_profile, picture.exif
    notes = []
    if not kind.deep and picture.depth > 8:
        pixels = to_eight_bits(pixels)
        notes.append(f"reduced from 16 to 8 bits per sample, as {kind.name} files hold no more; .png and .tif do")
    channels = picture.channels if kind.grey else 3
    if icc_profile is not None and not (kind.profile and profile_fits(icc_profile, channels)):
        icc_profile = None
        notes.append(f"the colour profile was left out: it does not fit a {kind.name} file of this picture")
    if exif is not None and len(exif) > kind.max_exif:
        exif = None
        limit = f"hold at most {kind.max_exif} bytes of it" if kind.max_exif else "have none"
        notes.append(f"the EXIF block was left out: {kind.name} files {limit}")
    return replace(picture, pixels=pixels, icc_profile=icc_profile, exif=exif), tuple(notes)


def _check_quality(kind: ImageFormat, quality: int | None) -> None:
    if quality is None:
        return
    if not kind.lossy:
        msg = f"{kind.name} files are lossless and have no quality, but {quality} was asked for"
        raise UsageError(msg, "leave the quality out, or use .jpg or .webp")
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
            raise UsageError(msg, "choose another name, or replace it with --overwrite")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            msg = f"{path} cannot be overwritten: it is not a file that may be written"
            raise InputError(msg)
        # Asking for permission bits would miss read-only and special file systems. This leaves no file.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
