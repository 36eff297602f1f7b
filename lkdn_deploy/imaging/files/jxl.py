"""JPEG XL files, decoded and encoded by libjxl through imagecodecs.

imagecodecs gives pixels only, so the header is read here (ISO/IEC 18181-1, annexes A and D), and the boxes around the
picture (18181-2), which hold EXIF and XMP. An embedded ICC profile is compressed in a way of its own and is not read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.bands import Bands
from lkdn_deploy.imaging.files.boxes import box, boxes
from lkdn_deploy.imaging.files.compression import imagecodecs
from lkdn_deploy.imaging.files.exif import EXIF_PREFIX, upright_exif
from lkdn_deploy.imaging.files.picture import (
    Description,
    Header,
    OpenedImage,
    Picture,
    check_size,
    cicp_chunks,
    collected,
    to_straight,
    widened,
)
from lkdn_deploy.imaging.files.pillow import refuse_frames, xmp_of
from lkdn_deploy.imaging.files.xmp import MAX_XMP
from lkdn_deploy.imaging.pixels import Pixels

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
SIGNATURES = (_CODESTREAM, _CONTAINER)
_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ALPHA, _SPOT, _BLACK, _FILTER_ARRAY = 0, 2, 4, 5  # kinds of extra channels
_GREY, _XYB, _UNKNOWN = 1, 2, 3  # colour spaces
_CUSTOM = 2  # white point or primaries
_GAMMA = 255  # stands for a transfer function that H.273 does not have
_LINEAR, _SRGB = 8, 13  # transfer functions
_HEADER = 1 << 12  # bytes of the codestream in which the header is, unless the names of channels are long


@dataclass(frozen=True, slots=True)
class _Facts:
    """The header of a codestream.

    Attributes:
        width, height: of the upright picture, in pixels.
        bits: per sample.
        grey: whether it has one colour channel.
        alpha: bits per sample of the alpha channel, 0 if there is none.
        premultiplied: whether colours are multiplied by alpha.
        converted: whether colours are stored in the format's own space (XYB), from which decoders convert them.
        others: number of channels beside colour and alpha.
        profile: whether it embeds an ICC profile.
        primaries, transfer: colour space, by its numbers in ITU-T H.273.
        transfer_at: bit of the codestream at which the transfer function is named, 0 if it is not.
    """

    width: int
    height: int
    bits: int = 8
    grey: bool = False
    alpha: int = 0
    premultiplied: bool = False
    converted: bool = False
    others: int = 0
    profile: bool = False
    primaries: int = 1
    transfer: int = 13
    transfer_at: int = 0


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._size, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def take(self, count: int) -> int:
        if self.at + count > self._size:
            msg = "the header is cut off"
            raise ValueError(msg)
        value = self._value >> self.at & (1 << count) - 1
        self.at += count
        return value

    def choice(self, *offsets_and_bits: tuple[int, int]) -> int:
        """Read one of four numbers: an offset, and bits that are added to it."""
        offset, bits = offsets_and_bits[self.take(2)]
        return offset + self.take(bits)

    def enumerated(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _sides(bits: _Bits) -> tuple[int, int]:
    """Read width and height."""
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = _RATIOS[bits.take(3)]
    return (height * ratio[0] // ratio[1] if ratio else side()), height


def _depth(bits: _Bits) -> int:
    """Read the number of bits per sample.

    Raises:
        InputError: for floating-point samples.
    """
    if bits.take(1):
        msg = "the file holds floating-point samples; expected integers of at most 16 bits"
        raise InputError(msg, "convert it to 16-bit PNG or TIFF first")
    return bits.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _facts(codestream: bytes) -> _Facts:
    """Read the header of a codestream.

    Raises:
        InputError: for animations, CMYK and floating-point samples.
        ValueError: if it is damaged.
    """
    if not codestream.startswith(_CODESTREAM):
        msg = "it holds no codestream"
        raise ValueError(msg)
    bits = _Bits(codestream[2:])
    width, height = _sides(bits)
    if bits.take(1):  # everything else has its usual value
        return _Facts(width, height)
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _sides(bits)  # of the screen it was made for
        if bits.take(1):
            _skip_preview(bits)
        refuse_frames(bool(bits.take(1)))
        if orientation > 4:
            width, height = height, width
    depth = _depth(bits)
    bits.take(1)
    alpha, premultiplied, others = 0, False, 0
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        kind, own_depth, own_premultiplied = _extra_channel(bits)
        if kind == _BLACK:
            msg = "the file holds CMYK, which is not read from JPEG XL files"
            raise InputError(msg, "convert it to RGB first")
        if kind == _ALPHA and not alpha:
            alpha, premultiplied = own_depth, own_premultiplied
        else:
            others += 1
    facts = _Facts(width, height, depth, alpha=alpha, premultiplied=premultiplied, others=others)
    return replace(facts, converted=bool(bits.take(1)), **_colour(bits))


def _skip_preview(bits: _Bits) -> None:
    small = bits.take(1)
    sides = ((16, 0), (32, 0), (1, 5), (33, 9)) if small else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choice(*sides)
    if not bits.take(3):
        bits.choice(*sides)


def _extra_channel(bits: _Bits) -> tuple[int, int, bool]:
    """Read kind, bits per sample, and whether colours are multiplied by it."""
    if bits.take(1):
        return _ALPHA, 8, False
    kind = bits.enumerated()
    depth = _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.take(8)
    premultiplied = kind == _ALPHA and bool(bits.take(1))
    if kind == _SPOT:
        bits.take(64)
    elif kind == _FILTER_ARRAY:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, depth, premultiplied


def _colour(bits: _Bits) -> dict[str, Any]:
    """Read the facts on the colour space."""
    if bits.take(1):
        return {}
    profile, space = bool(bits.take(1)), bits.enumerated()
    primaries, transfer, transfer_at = 1, 13, 0
    if not profile:
        white = bits.enumerated() if space != _XYB else 1
        if white == _CUSTOM:
            _skip_point(bits)
        if space not in (_GREY, _XYB):
            primaries = bits.enumerated()
            if primaries == _CUSTOM:
                for _ in range(3):
                    _skip_point(bits)
            elif primaries == 11:  # of DCI-P3, whose number in H.273 depends on the white point
                primaries = 12 if white == 1 else 11
        if space != _XYB:
            if bits.take(1):
                bits.take(24)
                transfer = _GAMMA
            else:
                transfer_at = 8 * len(_CODESTREAM) + bits.at
                transfer = bits.enumerated()
    return {
        "grey": space == _GREY,
        "profile": profile,
        "primaries": primaries,
        "transfer": transfer,
        "transfer_at": transfer_at,
    }


def _skip_point(bits: _Bits) -> None:
    for _ in range(2):
        bits.choice((0, 19), (524288, 19), (1048576, 20), (2097152, 21))


def open_jxl(file: IO[bytes]) -> OpenedImage:
    """Open a JPEG XL file of up to 16 bits per sample. libjxl turns the picture upright.

    Raises:
        MissingError: if imagecodecs is not installed.
        InputError: for animations, too large images and floating-point samples.
        ValueError, struct.error: if the file is damaged.
    """
    data = file.read()
    codestream, exif, xmp = data[:_HEADER], b"", b""
    if data.startswith(_CONTAINER):
        codestream, found = b"", {b"Exif": b"", b"xml ": b""}
        for kind, contents in boxes(data):
            if kind in (b"jxlc", b"jxlp") and len(codestream) < _HEADER:
                codestream += contents[4 * (kind == b"jxlp") :][:_HEADER]
            elif found.get(kind) == b"":
                found[kind] = contents
            elif kind == b"brob" and found.get(contents[:4]) == b"":  # compressed
                found[contents[:4]] = bytes(imagecodecs().brotli_decode(contents[4:], out=MAX_XMP)) or b"\0"
        exif, xmp = found[b"Exif"], found[b"xml "]
        exif = exif[4 + int.from_bytes(exif[:4], "big") :]
    facts = _facts(codestream)
    check_size(facts.width, facts.height)
    if max(facts.bits, facts.alpha) > 16:
        msg = f"the file holds {max(facts.bits, facts.alpha)}-bit samples; expected at most 16 bits"
        raise InputError(msg, "convert it to 16-bit PNG or TIFF first")
    channels = (1 if facts.grey else 3) + bool(facts.alpha)
    header = Header(facts.width, facts.height, channels, 8 if facts.bits <= 8 else 16)
    return OpenedImage(header, partial(_decode, data, facts, header, exif, xmp))


def _decode(data: bytes, facts: _Facts, header: Header, exif: bytes, xmp: bytes) -> Picture:
    """Decode an opened file.

    Raises:
        RuntimeError, ValueError: from imagecodecs, if the file is damaged.
    """
    shape = (header.height, header.width) + (header.channels,) * (header.channels > 1)
    out = np.empty(shape, np.uint8 if header.depth == 8 else np.uint16)
    pixels = np.asarray(imagecodecs().jpegxl_decode(data, out=out))
    pixels = widened(pixels.reshape(*shape[:2], header.channels), facts.bits)
    notes = []
    if facts.bits not in (8, 16):
        notes.append(f"widened from {facts.bits} to {header.depth} bits per sample")
    if facts.others:
        notes.append(f"{facts.others} further channel(s), which are not alpha, were left out")
    if facts.profile and facts.converted:
        # libjxl knows no way to the profile's space, and gives linear light instead.
        pixels = _by_table(pixels, _to_srgb)
        notes.append("its colours were converted to sRGB, as its colour profile cannot be read")
    elif facts.profile:
        notes.append("its colour profile cannot be read and was left out: colours may be off")
    elif facts.primaries == _CUSTOM or facts.transfer == _GAMMA:
        notes.append("its colour space cannot be named in other files and was left out: colours may be off")
    if facts.premultiplied:
        to_straight(pixels)
    block = upright_exif(exif) if exif else None
    if exif and block is None:
        notes.append("its EXIF block is damaged and was left out")
    packet, further = xmp_of(xmp)
    picture = Picture(pixels, exif=block, notes=(*notes, *further), xmp=packet)
    if not facts.profile and facts.primaries != _CUSTOM and facts.transfer != _GAMMA:
        picture = picture.with_colour(cicp_chunks(facts.primaries, facts.transfer))
    return picture


def write_jxl(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a JPEG XL file of 8 or 16 bits per sample, with EXIF and XMP; lossless at quality 100.

    Args:
        file: to write to. The picture and the encoded file are held in memory.
        description: of a picture of any kind.
        bands: its rows.
        quality: 1 to 100.
        threads: number of threads that encode.

    Raises:
        MissingError: if imagecodecs is not installed.
        OSError: if ``file`` does.
        RuntimeError, ValueError: from the encoder.
    """
    picture = collected(description, bands)
    pixels = picture.pixels
    if picture.depth == 16 and quality < 100:
        pixels = _by_table(pixels, _to_linear)
    samples = np.ascontiguousarray(pixels[..., 0] if picture.channels == 1 else pixels)
    options = {"lossless": True} if quality == 100 else {"distance": _distance(quality)}
    encoded = bytes(imagecodecs().jpegxl_encode(samples, numthreads=threads, **options))
    level, codestream = b"", encoded
    if encoded.startswith(_CONTAINER):
        found = list(boxes(encoded))
        level = b"".join(box(kind, contents) for kind, contents in found if kind == b"jxll")
        parts = (contents[4 * (kind == b"jxlp") :] for kind, contents in found if kind in (b"jxlc", b"jxlp"))
        codestream = b"".join(parts)
    if picture.depth == 16:
        codestream = _marked_as_srgb(codestream)
    metadata = b""
    if picture.exif is not None:
        metadata += box(b"Exif", bytes(4) + picture.exif.removeprefix(EXIF_PREFIX))
    if picture.xmp is not None:
        metadata += box(b"xml ", picture.xmp)
    if metadata or level:
        file.write(_CONTAINER + box(b"ftyp", b"jxl \0\0\0\0jxl ") + level + metadata)
        codestream = box(b"jxlc", codestream)
    file.write(codestream)


def _to_linear(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo sRGB's transfer function (IEC 61966-2-1) of values in 0..1."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _to_srgb(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply sRGB's transfer function to values in 0..1."""
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def _by_table(pixels: Pixels, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Pixels:
    """Apply a function of values in 0..1 to the colours of pixels, not to their alpha."""
    peak = np.iinfo(pixels.dtype).max
    converted: Pixels = np.rint(peak * function(np.arange(peak + 1) / peak)).astype(pixels.dtype)[pixels]
    if pixels.shape[2] in (2, 4):
        converted[..., -1] = pixels[..., -1]
    return converted


def _marked_as_srgb(codestream: bytes) -> bytes:
    """Name sRGB's transfer function in a header: imagecodecs takes 16-bit samples for linear ones.

    In a lossless file samples are as they were given; in others they are in a colour space of the format's own, which
    decoders convert to that of the header.
    """
    facts = _facts(codestream[:_HEADER])
    if facts.transfer != _LINEAR:
        return codestream
    at = facts.transfer_at + 2  # behind the choice of 2 plus four bits, which both functions have
    value = int.from_bytes(codestream[:_HEADER], "little")
    value ^= (_LINEAR - 2 << at) ^ (_SRGB - 2 << at)
    return value.to_bytes(len(codestream[:_HEADER]), "little") + codestream[_HEADER:]


def _distance(quality: int) -> float:
    """Return the distance, in units of just noticeable differences, that libjxl takes for a quality of JPEG files."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25
