"""Film files by suffix and by content. It imports nothing heavy: ``lkdn-upscale --help`` and pictures need no PyAV."""

import os
import re
from pathlib import Path

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import open_regular

_READ = ".3gp .asf .avi .f4v .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .ts .vob .webm .wmv .y4m"
SUFFIXES = frozenset(_READ.split())
"""Suffixes of films that are read."""

MUXERS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""The format that is written, by suffix. They hold a timestamp for every picture; AVI, for one, does not."""

DEMUXERS = "matroska,webm,mov,mp4,m4a,3gp,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,nut,yuv4mpegpipe"
"""The formats that may be read. Playlists are not among them: they would open other files and addresses."""

_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"crx ")
_TRANSPORT_PACKET = 188  # bytes between the sync bytes of an MPEG transport stream


def is_film(path: Path) -> bool:
    """Return whether a file is a film: by its suffix, or by its content where the suffix says nothing."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    # A file without a suffix, or with one such as .tmp or .download.
    from lkdn_deploy.imaging.files.formats import BY_SUFFIX

    return suffix not in BY_SUFFIX and _begins_as_film(_head(path))


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(2 * _TRANSPORT_PACKET + 1)
    except (OSError, ValueError):
        return b""


def _begins_as_film(head: bytes) -> bool:
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    if len(head) > 2 * _TRANSPORT_PACKET and {head[0], head[_TRANSPORT_PACKET], head[2 * _TRANSPORT_PACKET]} == {0x47}:
        return True
    known = (b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"\x00\x00\x01\xba", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
    return head.startswith((*known, b"YUV4MPEG2 ")) or head[4:8] in (b"moov", b"mdat")


def muxer_for(path: str | os.PathLike[str]) -> str:
    """Return the name of the format that a film is written in.

    Raises:
        UsageError: if the suffix names none.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in MUXERS:
        msg = f"{path}: a film is written as {', '.join(MUXERS)}, not as {suffix or 'a file without a suffix'}"
        raise UsageError(msg, "choose .mkv, which keeps most")
    return MUXERS[suffix]


def seconds(text: str) -> float:
    """Return the seconds of ``90``, ``1:30``, ``00:01:30`` or ``1:30.5``.

    Raises:
        UsageError: if it is no such time.
    """
    if not (match := re.fullmatch(r"(?:(?:(\d{1,3}):)?([0-5]?\d):)?(\d{1,6}(?:\.\d{1,9})?)", text.strip())):
        msg = f"expected seconds or hh:mm:ss, such as 90, 1:30 or 0:01:30.5, got {text!r}"
        raise UsageError(msg)
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    if match[2] is not None and rest >= 60:
        msg = f"a minute has 60 seconds, got {text!r}"
        raise UsageError(msg)
    return 3600 * hours + 60 * minutes + rest
