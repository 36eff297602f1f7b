"""Pictures to image files."""

import io
import os
import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.threads import cores
from lkdn_deploy.imaging.files.deflate import DeflateError
from lkdn_deploy.imaging.files.exif import profile_fits
from lkdn_deploy.imaging.files.jpeg import write_jpeg
from lkdn_deploy.imaging.files.picture import Picture, to_eight_bits
from lkdn_deploy.imaging.files.pillow import to_pil
from lkdn_deploy.imaging.files.png_write import write_png

DEFAULT_QUALITY = 95
_EXIF_IN_JPEG = 65533  # one segment, less its length field


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What a file format can hold."""

    name: str
    max_side: int
    max_bytes: int | None = None  # of the uncompressed samples
    deep: bool = False
    alpha: bool = True
    lossy: bool = False
    profile: bool = True
    exif: bool = True
    in_stripes: bool = False  # written part by part, so that no encoded copy of the picture is held


# JPEG's side limit is libjpeg's, not the format's 65535. TIFF and BMP count bytes in 32 bits; the headroom is for
# directories, profile and EXIF.
_PNG = OutputFormat("PNG", 2**31 - 1, deep=True, in_stripes=True)
_JPEG = OutputFormat("JPEG", 65500, alpha=False, lossy=True, in_stripes=True)
_WEBP = OutputFormat("WebP", 16383, lossy=True)
_TIFF = OutputFormat("TIFF", 2**31 - 1, max_bytes=2**32 - 2**26, deep=True)
# BMP has an alpha channel in later versions of its header, but readers, Pillow's included, take it for padding.
_BMP = OutputFormat("BMP", 2**31 - 1, max_bytes=2**32 - 2**11, alpha=False, profile=False, exif=False)
OUTPUT_FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _BMP,
}


def check_output(
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    channels: int,
    depth: int,
    quality: int | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Find out before any work whether such a picture can be written to ``path``; give notes on what it loses.

    Args:
        path: where to; its suffix chooses the format.
        width, height, channels, depth: of the picture to come, as in ``Header``.
        quality: 1 to 100, for JPEG and WebP only; None is ``DEFAULT_QUALITY``. 100 makes WebP lossless.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: for an unknown suffix, a picture the format cannot hold, a quality where there is none, an
            output that exists or is a folder, and a parent folder that does not exist.
        InputError: if files cannot be written there.
    """
    check_target(path, quality=quality, overwrite=overwrite)
    path = Path(path)
    return _check_fit(path, _format_of(path), width, height, channels, depth)


def check_target(path: str | os.PathLike[str], *, quality: int | None = None, overwrite: bool = False) -> None:
    """The part of ``check_output`` that needs no picture: the place, the format and the quality.

    Raises:
        UsageError, InputError: as ``check_output`` does.
    """
    path = Path(path)
    _check_place(path, overwrite=overwrite)
    _check_quality(_format_of(path), quality)


def in_stripes(path: str | os.PathLike[str]) -> bool:
    """Whether a file of this suffix is written part by part, beside which no encoded copy of the picture is held.

    Raises:
        UsageError: for an unknown suffix.
    """
    return _format_of(Path(path)).in_stripes


def write_picture(
    path: str | os.PathLike[str], picture: Picture, *, quality: int | None = None, threads: int | None = None
) -> tuple[str, ...]:
    """Write ``picture`` in the format of the suffix, replacing what is there; the file appears whole or not at all.

    PNG, TIFF and BMP are lossless, and WebP is at quality 100; JPEG keeps full colour resolution (4:4:4).
    Profile, EXIF and resolution are kept where the format can hold them.

    Args:
        path: where to; its suffix chooses the format.
        picture: what to write.
        quality: as in ``check_output``.
        threads: CPU threads that compress PNG, TIFF and JPEG, which makes no other file; default: all cores.

    Returns:
        Notes on what the file does not hold.

    Raises:
        UsageError: for an unknown suffix, a picture the format cannot hold, a quality where there is none.
        InputError: if the file cannot be written; no part of it is left.
        MissingError: for JPEG where imagecodecs is not installed.
    """
    path = Path(path)
    kind = _format_of(path)
    notes = _check_fit(path, kind, picture.width, picture.height, picture.channels, picture.depth)
    _check_quality(kind, quality)
    picture, dropped = _reduced(picture, kind)
    with publish(path) as part:
        try:
            with part.open("wb") as file:
                _write(file, picture, kind, DEFAULT_QUALITY if quality is None else quality, threads or cores())
        except (ValueError, RuntimeError, OverflowError, MemoryError, struct.error, DeflateError) as error:
            msg = f"{path} cannot be written: {error or type(error).__name__}"
            raise InputError(msg) from error
    return notes + dropped


def _write(file: IO[bytes], picture: Picture, kind: OutputFormat, quality: int, threads: int) -> None:
    if kind is _PNG:
        write_png(file, picture, threads)
        return
    if kind is _JPEG:
        write_jpeg(file, picture, quality, _facts(picture), threads)
        return
    # The whole of others in memory first: Pillow, given a file, does not notice when it takes only a part.
    buffer = io.BytesIO()
    if kind is _TIFF:
        from lkdn_deploy.imaging.files.tiff import write_tiff  # as in reading

        write_tiff(buffer, picture, threads)
    else:
        to_pil(picture).save(buffer, kind.name, **_options(picture, kind, quality))
    file.write(buffer.getbuffer())


def _options(picture: Picture, kind: OutputFormat, quality: int) -> dict[str, Any]:
    """Of Pillow's encoder."""
    options = _facts(picture)
    if kind is _WEBP and quality == 100:
        # exact: without it the colour under transparent pixels is thrown away.
        options |= {"lossless": True, "exact": True}
    elif kind is _WEBP:
        options |= {"quality": quality}
    return options


def _facts(picture: Picture) -> dict[str, Any]:
    """What Pillow's encoders are told of the picture."""
    facts = {"icc_profile": picture.icc_profile, "exif": picture.exif, "dpi": picture.dpi}
    return {key: value for key, value in facts.items() if value is not None}


def _reduced(picture: Picture, kind: OutputFormat) -> tuple[Picture, tuple[str, ...]]:
    """The picture less what the format cannot hold, and notes on what that is, but for the depth."""
    pixels = picture.pixels if kind.deep else to_eight_bits(picture.pixels)
    icc_profile, exif, notes = picture.icc_profile, picture.exif, []
    # WebP has no grey: what is written is RGB, whatever the array.
    channels = 3 if kind is _WEBP else picture.channels
    if icc_profile is not None and not (kind.profile and profile_fits(icc_profile, channels)):
        icc_profile = None
        notes.append(f"the colour profile was left out: it does not fit a {kind.name} file of this picture")
    if exif is not None and not kind.exif:
        exif = None
        notes.append(f"the EXIF block was left out: {kind.name} files have none")
    elif exif is not None and kind is _JPEG and len(exif) > _EXIF_IN_JPEG:
        exif = None
        notes.append(f"the EXIF block was left out: JPEG files hold at most {_EXIF_IN_JPEG} bytes of it")
    return replace(picture, pixels=pixels, icc_profile=icc_profile, exif=exif), tuple(notes)


def _format_of(path: Path) -> OutputFormat:
    kind = OUTPUT_FORMATS.get(path.suffix.lower())
    if kind is None:
        msg = f"{path} has the suffix {path.suffix!r}, which names no format that can be written"
        raise UsageError(msg, f"use one of {' '.join(OUTPUT_FORMATS)}")
    return kind


def _check_fit(path: Path, kind: OutputFormat, width: int, height: int, channels: int, depth: int) -> tuple[str, ...]:
    if channels in (2, 4) and not kind.alpha:
        msg = f"{path} would lose the picture's transparency, which {kind.name} files do not hold"
        raise UsageError(msg, "use .png, .webp or .tif")
    kept = depth if kind.deep else 8
    if max(width, height) > kind.max_side:
        msg = f"{path} would be {width}×{height}; {kind.name} files hold at most {kind.max_side} pixels a side"
        raise UsageError(msg, "use .tif" if kind is _PNG else "use .png or .tif")
    size = (width * channels + 3) * height * kept // 8
    if kind.max_bytes is not None and size > kind.max_bytes:
        msg = f"{path} would be {width}×{height}, {size:,} bytes; {kind.name} files hold at most 4 GiB"
        raise UsageError(msg, "use .png")
    if kept < depth:
        return (f"reduced from {depth} to 8 bits a sample, as {kind.name} files hold no more; .png and .tif do",)
    return ()


def _check_quality(kind: OutputFormat, quality: int | None) -> None:
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
            raise UsageError(msg, "choose another name, or allow overwriting")
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            msg = f"{path} cannot be overwritten: it is not a file that may be written"
            raise InputError(msg)
        # Asking for permission bits would miss read-only and special file systems. This leaves no file.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error
