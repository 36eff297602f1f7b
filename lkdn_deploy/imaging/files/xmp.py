"""XMP packets without what is no longer true of the picture, and the parts of a file that are left out."""

import re

MAX_XMP = 1 << 24
"""Most bytes of a packet that is kept."""

_SIDES = rb"(?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension|exif:Exif(?:Width|Height))"
_OTHER_PARTS = rb"(?:hdrgm|HDRGainMap|GDepth|GImage|Container|GContainer|xmpNote|apdi|depthBlurEffect)"
_VIDEO = rb"GCamera:(?:MotionPhoto|MicroVideo)\w*"
# Patterns are compiled when they are first needed, not on import: most pictures have no XMP packet.
_STALE = rb"\s(?:" + _SIDES + rb"|" + _OTHER_PARTS + rb":\w+|" + _VIDEO + rb")\s?=\s?(?:\"[^\"]*\"|'[^']*')"
_STALE_ELEMENT = rb"<(xmp:Thumbnails|xmpGImg:\w+|" + _SIDES + rb"|" + _OTHER_PARTS + rb":\w+|" + _VIDEO + rb")[\s>]"
_ORIENTATION = rb"(tiff:Orientation\s?(?:=\s?[\"']|>)\s?)[2-8]"
_MAX_NAMES = 32

_PARTS = (
    ("HDR gain map", rb"ns\.adobe\.com/hdr-gain-map|aux:hdrgainmap|iso:ts:21496|ns\.apple\.com/HDRGainMap"),
    ("depth map", rb"GDepth:\w|Semantic=\"(?:http[^\"]*)?[dD]epth\"|aux:(?:disparity|depth)"),
    ("extended XMP packet", rb"xmpNote:HasExtendedXMP"),
    ("video", rb"GCamera:(?:MotionPhoto|MicroVideo)(?:=[\"']|>)1"),
)


def clean_xmp(xmp: bytes) -> bytes:
    """Remove sizes, thumbnails, and descriptions of gain maps, depth maps and videos; set the orientation to normal."""
    xmp = re.sub(_ORIENTATION, rb"\g<1>1", re.sub(_STALE, b"", xmp))
    names = sorted({match[1] for match in re.finditer(_STALE_ELEMENT, xmp)})[:_MAX_NAMES]
    for name in names:
        xmp = _without_element(xmp, name)
    return xmp


def _without_element(xmp: bytes, name: bytes) -> bytes:
    opening, closing = re.compile(rb"<" + name + rb"[\s>]"), b"</" + name + b">"
    kept, at = [], 0
    while (match := opening.search(xmp, at)) and (end := xmp.find(closing, match.start())) >= 0:
        kept.append(xmp[at : match.start()])
        at = end + len(closing)
    return b"".join([*kept, xmp[at:]])


def parts_left_out(data: bytes) -> tuple[str, ...]:
    """Return a note on each part that an XMP packet, or a file of several pictures, has beside its first picture."""
    return tuple(f"the file's {part} was left out" for part, pattern in _PARTS if re.search(pattern, data))
