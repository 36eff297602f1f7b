"""HEIC files, as phones write them, read through pi-heif, which only decodes."""

from functools import partial
from typing import IO, Any

import numpy as np

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.core.optional import install
from lkdn_deploy.imaging.files.boxes import boxes
from lkdn_deploy.imaging.files.exif import upright_exif
from lkdn_deploy.imaging.files.picture import (
    Header,
    OpenedImage,
    Picture,
    check_size,
    cicp_chunks,
    profile_fits,
    to_straight,
    widened,
)
from lkdn_deploy.imaging.files.pillow import xmp_of
from lkdn_deploy.imaging.files.xmp import parts_left_out

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}


def _pi_heif() -> Any:
    try:
        import pi_heif
    except ImportError as error:
        msg = "the file is a HEIC file: install the extra that reads them"
        raise MissingError(msg, f"in a checkout of this project: {install('heic')}") from error
    return pi_heif


def open_heif(file: IO[bytes]) -> OpenedImage:
    """Open a HEIC file of 8 to 12 bits per sample. libheif turns the picture upright.

    Raises:
        MissingError: if pi-heif is not installed.
        InputError: for too large images, and for grey of more than 8 bits.
        ValueError, RuntimeError, OSError: from pi-heif, if the file is damaged.
    """
    heif = _pi_heif()
    data = file.read()
    _check_texts(data)
    opened = heif.open_heif(data, convert_hdr_to_8bit=False)
    image = opened[opened.primary_index]
    width, height = image.size
    check_size(width, height)
    mode, _, deep = image.mode.partition(";")
    if mode not in _CHANNELS or (deep and _CHANNELS[mode] < 3):
        # pi-heif trusts the header: where the pixels have 8 bits in truth, it writes beyond their memory.
        msg = "the file holds grey of more than 8 bits, which is not read from HEIC files"
        raise InputError(msg, "convert it to PNG or TIFF first")
    channels = _CHANNELS[mode]
    return OpenedImage(Header(width, height, channels, 16 if deep else 8), partial(_decode, opened, image, channels))


def _check_texts(data: bytes) -> None:
    """Refuse files with types and names of items that are not UTF-8, on which pi-heif crashes.

    Raises:
        ValueError: if there are any.
    """
    for kind, contents in boxes(data):
        at = contents.find(b"infe") if kind == b"meta" else -1
        while at >= 0:
            size = int.from_bytes(contents[max(at - 4, 0) : at], "big")
            entry = contents[at + 4 : at - 4 + size]
            entry[10 if entry[:1] == b"\3" else 8 :].decode()  # behind version, identifier and protection
            at = contents.find(b"infe", at + 4)


def _decode(opened: Any, image: Any, channels: int) -> Picture:
    pixels = np.array(image).reshape(image.size[1], image.size[0], channels)
    if image.mode.startswith("RGBa"):
        to_straight(pixels)
    info, notes = image.info, []
    if pixels.dtype == np.uint16 and info["bit_depth"] != 16:
        bits = info["bit_depth"]
        pixels = widened(pixels >> 16 - bits, bits)
        notes.append(f"widened from {bits} to 16 bits per sample")
    if len(opened) > 1 or "sequence" in opened.mimetype:
        notes.append("the file holds several pictures; only its primary one was read")
    if info.get("depth_images"):
        notes.append("the file's depth map was left out")
    aux = " ".join(str(name) for name in info.get("aux", ())).encode()
    xmp, further = xmp_of(info.get("xmp"))
    notes.extend(note for note in (*parts_left_out(aux), *further) if note not in notes)
    exif = upright_exif(info["exif"]) if info.get("exif") else None
    if info.get("exif") and exif is None:
        notes.append("its EXIF block is damaged and was left out")
    profile = info.get("icc_profile") or None
    if profile is not None and not profile_fits(profile, channels):
        profile = None
        notes.append("its colour profile is for another colour space than its pixels and was left out")
    picture = Picture(pixels, icc_profile=profile, exif=exif, notes=tuple(notes), xmp=xmp)
    nclx = info.get("nclx_profile")
    if profile is None and nclx:
        primaries, transfer = int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
        picture = picture.with_colour(cicp_chunks(primaries, transfer))
    return picture
