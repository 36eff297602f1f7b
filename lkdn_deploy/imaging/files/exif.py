"""What travels beside the pixels: EXIF, colour profiles and resolution."""

import math
import re
import struct
from typing import Any

from PIL import ExifTags, Image

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION = int(ExifTags.Base.Orientation)
_SUB_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_INTEROP = int(ExifTags.IFD.Interop)

# TIFF keeps EXIF and the layout of its own pixels in one directory. Only tags that describe the picture may
# cross from one file to another; the layout belongs to the file it is in.
_DESCRIPTIVE = (
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.PageName,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.RatingPercent,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
)


def upright_exif(exif: bytes) -> bytes | None:
    """Set the orientation of an EXIF block to normal, leaving every other byte; None if it is damaged.

    Patched rather than parsed and written anew: that would move maker notes, whose offsets are absolute.
    """
    block = bytearray(re.sub(rb"^(Exif\0\0)+", b"", exif))
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, at)
            if tag == ORIENTATION:
                struct.pack_into(order + {1: "B", 4: "I"}.get(kind, "H"), block, at + 8, 1)
    except struct.error:
        return None
    return EXIF_PREFIX + bytes(block)


def descriptive_tags(exif: Image.Exif) -> dict[int, Any]:
    """The tags of a directory that say something about the picture; sub-directories as dicts of their own."""
    tags: dict[int, Any] = {int(tag): exif[tag] for tag in _DESCRIPTIVE if tag in exif}
    for tag in _SUB_DIRECTORIES:
        # The interoperability directory is an offset into the file it came from.
        inner = {key: value for key, value in exif.get_ifd(tag).items() if key != _INTEROP}
        if inner:
            tags[tag] = inner
    return tags


def exif_from_tags(exif: Image.Exif) -> bytes | None:
    """An EXIF block of the descriptive tags, orientation normal; None if there are none."""
    tags = descriptive_tags(exif)
    if not tags:
        return None
    block = Image.Exif()
    block[ORIENTATION] = 1
    for tag, value in tags.items():
        block[tag] = value
    return block.tobytes()


def parse_exif(exif: bytes | None) -> Image.Exif:
    """An EXIF block as Pillow's mapping; empty if there is none or it is damaged."""
    parsed = Image.Exif()
    if exif is not None:
        try:
            parsed.load(exif)
        except Exception:  # damaged input: Pillow raises whatever its parser trips over
            return Image.Exif()
    return parsed


def sane_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution as a pair of floats, or None where the file's makes no sense."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and 1 <= value <= 65535 for value in (across, down)):
        return None
    return across, down


def profile_fits(icc_profile: bytes, channels: int) -> bool:
    """Whether a profile's own colour space is that of pixels with so many channels."""
    return icc_profile[16:20] == (b"GRAY" if channels < 3 else b"RGB ")


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none to be had."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF must not keep the picture from being read
        return 1
    return orientation if orientation in range(1, 9) else 1


def upright_exif_of(image: Image.Image) -> tuple[bytes | None, bool]:
    """The EXIF block, upright, and whether there was one that cannot be kept."""
    raw = image.info.get("exif")
    try:
        if isinstance(raw, bytes):
            exif = upright_exif(raw) if re.sub(rb"^(Exif\0\0)+", b"", raw) else None
            return exif, exif is None and len(raw) > len(b"Exif\0\0")
        return exif_from_tags(image.getexif()), False
    except Exception:  # damaged EXIF must not keep the picture from being read
        return None, True
