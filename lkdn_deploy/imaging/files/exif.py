"""EXIF blocks: set upright, and reduced to the tags that may cross from one file to another."""

import re
import struct
from typing import Any

from PIL import ExifTags, Image

EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = int(ExifTags.Base.Orientation)
_SUB_DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_INTEROP = int(ExifTags.IFD.Interop)

# TIFF keeps EXIF and the layout of its own pixels in one directory. Only tags that describe the picture may
# cross from one file to another; the layout belongs to the file it is in.
_DESCRIPTIVE = [
    int(ExifTags.Base[name])
    for name in (
        *("DocumentName", "ImageDescription", "Make", "Model", "PageName", "Software", "DateTime", "Artist"),
        *("HostComputer", "Rating", "RatingPercent", "Copyright"),
        *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
    )
]


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) where there is none or it is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF must not keep the picture from being read
        return 1
    return orientation if orientation in range(1, 9) else 1


def upright_exif_of(image: Image.Image) -> tuple[bytes | None, bool]:
    """Return an image's EXIF block set upright, None if there is none, and whether one was damaged and dropped."""
    raw = image.info.get("exif")
    try:
        if isinstance(raw, bytes):
            exif = _upright(raw) if _without_prefix(raw) else None
            return exif, exif is None and len(raw) > len(EXIF_PREFIX)
        return exif_from_tags(image.getexif()), False
    except Exception:  # damaged EXIF must not keep the picture from being read
        return None, True


def _without_prefix(exif: bytes) -> bytes:
    return re.sub(rb"^(Exif\0\0)+", b"", exif)


def _upright(exif: bytes) -> bytes | None:
    """Set the orientation of a block to normal and leave every other byte; return None if it is damaged.

    Patched in place, since writing it anew would move maker notes, whose offsets are absolute.
    """
    block = bytearray(_without_prefix(exif))
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", block, at)
            if tag == _ORIENTATION:
                struct.pack_into(order + {1: "B", 4: "I"}.get(kind, "H"), block, at + 8, 1)
    except struct.error:
        return None
    return EXIF_PREFIX + bytes(block)


def descriptive_tags(exif: Image.Exif) -> dict[int, Any]:
    """Return the tags of a directory that describe the picture, with sub-directories as dicts."""
    tags: dict[int, Any] = {tag: exif[tag] for tag in _DESCRIPTIVE if tag in exif}
    for tag in _SUB_DIRECTORIES:
        # The interoperability directory is an offset into the file it came from.
        inner = {key: value for key, value in exif.get_ifd(tag).items() if key != _INTEROP}
        if inner:
            tags[tag] = inner
    return tags


def exif_from_tags(exif: Image.Exif) -> bytes | None:
    """Build an upright EXIF block from a directory's descriptive tags; return None if it has none."""
    tags = descriptive_tags(exif)
    if not tags:
        return None
    block = Image.Exif()
    for tag, value in {_ORIENTATION: 1, **tags}.items():
        block[tag] = value
    return block.tobytes()


def parse_exif(exif: bytes | None) -> Image.Exif:
    """Parse an EXIF block into Pillow's mapping, empty if there is no block or it is damaged."""
    parsed = Image.Exif()
    if exif is not None:
        try:
            parsed.load(exif)
        except Exception:  # damaged input: Pillow raises whatever its parser trips over
            return Image.Exif()
    return parsed
