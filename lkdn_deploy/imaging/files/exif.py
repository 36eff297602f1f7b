"""EXIF blocks: set upright, without thumbnail, and reduced to the tags that may cross from one file to another."""

import io
import re
import struct
from collections.abc import Iterator

from PIL import ExifTags, Image

from lkdn_deploy.imaging.files.directory import (
    EXIF_DIRECTORY,
    GPS_DIRECTORY,
    SHORT,
    Tags,
    integers,
    lay_out,
    layout_of,
    read_tags,
)

EXIF_PREFIX = b"Exif\0\0"
MAKER_NOTE = int(ExifTags.Base.MakerNote)
_ORIENTATION = int(ExifTags.Base.Orientation)
_THUMBNAIL, _THUMBNAIL_SIZE = int(ExifTags.Base.JpegIFOffset), int(ExifTags.Base.JpegIFByteCount)
_WIDTHS = (int(ExifTags.Base.ImageWidth), int(ExifTags.Base.ExifImageWidth))
_HEIGHTS = (int(ExifTags.Base.ImageLength), int(ExifTags.Base.ExifImageHeight))

# TIFF keeps EXIF and the layout of its own pixels in one directory. Only tags that describe the picture may
# cross from one file to another; the layout belongs to the file it is in.
_DESCRIPTIVE = [
    *(EXIF_DIRECTORY, GPS_DIRECTORY),
    *(
        int(ExifTags.Base[name])
        for name in (
            *("DocumentName", "ImageDescription", "Make", "Model", "PageName", "Software", "DateTime", "Artist"),
            *("HostComputer", "Rating", "RatingPercent", "Copyright"),
            *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
        )
    ),
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
            exif = upright_exif(raw)
            return exif, exif is None and len(raw) > len(EXIF_PREFIX)
        tags = image.getexif()
        return exif_from_tags(parse_exif(tags.tobytes())) if tags else None, False
    except Exception:  # damaged EXIF must not keep the picture from being read
        return None, True


def upright_exif(exif: bytes) -> bytes | None:
    """Set the orientation of a block to normal and drop its thumbnail; return None if it is damaged.

    The thumbnail shows the picture as it was stored, before it was turned. The block is patched in place, since writing
    it anew would move maker notes, whose offsets are absolute.
    """
    block = bytearray(re.sub(rb"^(Exif\0\0)+", b"", exif))
    try:
        (order, _), start = layout_of(block)
        end = start + 2
        for at, tag, kind in _entries(block, order, start):
            end = at + 12
            if tag == _ORIENTATION:
                struct.pack_into(order + {1: "B", 4: "I"}.get(kind, "H"), block, at + 8, 1)
    except (ValueError, struct.error):
        return None
    _drop_thumbnail(block, order, end)
    return EXIF_PREFIX + bytes(block)


def _entries(block: bytearray, order: str, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield place, tag and type of each entry of the directory at ``start``."""
    (entries,) = struct.unpack_from(f"{order}H", block, start)
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, at)
        yield at, tag, kind


def _drop_thumbnail(block: bytearray, order: str, link: int) -> None:
    """Cut the link to the second directory, which is at ``link``, and the bytes of its thumbnail."""
    try:
        (second,) = struct.unpack_from(f"{order}I", block, link)
        struct.pack_into(f"{order}I", block, link, 0)
        found = {
            tag: struct.unpack_from(f"{order}I", block, at + 8)[0] for at, tag, _ in _entries(block, order, second)
        }
    except struct.error:
        return
    start = found.get(_THUMBNAIL, 0)
    end = start + found.get(_THUMBNAIL_SIZE, 0)
    if second and second + 12 * len(found) < start < end:
        block[start:end] = bytes(min(end, len(block)) - start) if end < len(block) else b""


def resized_exif(exif: bytes, width: int, height: int) -> bytes:
    """Set the sizes that a block records of its picture, where it does so, to others in pixels.

    Args:
        exif: the block, beginning with ``Exif\\0\\0``.
        width, height: of the picture, in pixels.
    """
    block = bytearray(exif.removeprefix(EXIF_PREFIX))
    try:
        (order, _), start = layout_of(block)
        starts = [start]
        for start in starts:
            for at, tag, _ in _entries(block, order, start):
                if tag == EXIF_DIRECTORY and len(starts) == 1:
                    starts.append(struct.unpack_from(f"{order}I", block, at + 8)[0])
                elif tag in _WIDTHS or tag in _HEIGHTS:
                    value = width if tag in _WIDTHS else height
                    struct.pack_into(f"{order}HII", block, at + 2, 4, 1, value)  # as a LONG
    except (ValueError, struct.error):
        return exif
    return EXIF_PREFIX + bytes(block)


def descriptive_tags(tags: Tags) -> Tags:
    """Return the tags of a directory that describe the picture, with those inside it."""
    return {tag: tags[tag] for tag in _DESCRIPTIVE if tags.get(tag)}


def exif_from_tags(tags: Tags) -> bytes | None:
    """Build an upright EXIF block from a directory's descriptive tags; return None if it has none."""
    tags = descriptive_tags(tags)
    if not tags:
        return None
    block = lay_out({_ORIENTATION: integers(SHORT, 1), **tags}, 8)
    return EXIF_PREFIX + b"II*\0" + struct.pack("<I", 8) + block


def parse_exif(exif: bytes | None) -> Tags:
    """Parse an EXIF block into its tags; return none if there is no block or it is damaged."""
    if exif is None:
        return {}
    block = exif.removeprefix(EXIF_PREFIX)
    try:
        layout, start = layout_of(block[:16])
        return read_tags(io.BytesIO(block), start, layout)[0]
    except (ValueError, struct.error):
        return {}
