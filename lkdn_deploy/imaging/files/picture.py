"""The value that image files are read into and written from."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.bands import Bands, RowSource, rechunked
from lkdn_deploy.imaging.pixels import Pixels

# Half a GiB as 8-bit RGB, and where Pillow, too, turns from a warning to an error. A few kilobytes of file can
# claim any size.
MAX_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Header:
    """Facts from a file's header about the upright picture, known without decoding a pixel.

    Attributes:
        width, height: in pixels.
        channels: that reading gives: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA.
        depth: bits per sample that reading gives, 8 or 16.
    """

    width: int
    height: int
    channels: int
    depth: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the pixels: (height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels: uint8 or uint16."""
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)

    @property
    def row_bytes(self) -> int:
        """Bytes of the samples of a row."""
        return self.width * self.channels * self.depth // 8

    def upright(self, orientation: int) -> "Header":
        """Return the header with its sides swapped where the EXIF orientation turns the picture by a quarter."""
        return replace(self, width=self.height, height=self.width) if orientation > 4 else self


Chunk = tuple[bytes, bytes]
"""Name and data of a PNG chunk."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureMetadata:
    """Facts that a file records about a picture beside its size and its pixels.

    Attributes:
        icc_profile: the embedded colour profile; None means sRGB, or unknown.
        exif: an EXIF block, beginning with ``Exif\\0\\0``; its orientation is normal, as the pixels are upright.
        dpi: pixels per inch, (horizontal, vertical).
        notes: what reading changed or left out, a sentence each, for the user.
        xmp: an XMP packet, without sizes and thumbnails; its orientation is normal.
        iptc: IPTC-IIM records.
        texts: texts by keyword, as chunks of PNG (tEXt, zTXt, iTXt); a JPEG file's comment is one of them.
        colour: further facts on the colour space, as chunks of PNG (gAMA, cHRM, sRGB, cICP, mDCV, cLLI).
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: tuple[Chunk, ...] = ()
    colour: tuple[Chunk, ...] = ()

    @property
    def metadata(self) -> dict[str, Any]:
        """Profile, EXIF, XMP and resolution, as far as there are any, under Pillow's names for them."""
        metadata = {"icc_profile": self.icc_profile, "exif": self.exif, "xmp": self.xmp, "dpi": self.dpi}
        return {key: value for key, value in metadata.items() if value is not None}

    def with_colour(self, colour: tuple[Chunk, ...]) -> Self:
        """Return the same picture with other facts on its colour space."""
        return replace(self, colour=colour)

    def with_notes(self, *notes: str) -> Self:
        """Return the same picture with further notes."""
        return replace(self, notes=self.notes + notes)


@dataclass(frozen=True, slots=True, eq=False)
class Description(PictureMetadata):
    """A picture's size and kind, and what its file records about it: all but the pixels.

    Attributes:
        header: size, channels and depth of the upright picture.
    """

    header: Header

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """Return the picture that has these pixels."""
        return Picture(pixels, **_metadata_of(self))


@dataclass(frozen=True, slots=True, eq=False)
class Picture(PictureMetadata):
    """Upright pixels, and what the file recorded about them.

    Attributes:
        pixels: (H, W, C) uint8 or uint16 over the full range of the type; C is 1 grey, 2 grey+alpha, 3 RGB or
            4 RGBA, and alpha is straight (not premultiplied).

    Raises:
        UsageError: for pixels of another shape or type.
    """

    pixels: Pixels

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 2, 3, 4) or 0 in shape or dtype not in (np.uint8, np.uint16):
            msg = f"expected pixels (H, W, 1 to 4) of uint8 or uint16, got {shape} of {dtype}"
            raise UsageError(msg)

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return int(self.pixels.dtype.itemsize) * 8

    @property
    def header(self) -> Header:
        """Size, channels and depth."""
        return Header(self.width, self.height, self.channels, self.depth)

    @property
    def description(self) -> Description:
        """All but the pixels."""
        return Description(self.header, **_metadata_of(self))

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """Return a picture of other pixels with all else the same."""
        return replace(self, pixels=pixels)


def collected(description: Description, bands: Bands) -> Picture:
    """Return the picture whose rows come in bands, for formats whose files cannot be written part by part.

    Raises:
        ValueError: if the rows are not those of the description.
    """
    header = description.header
    (pixels,) = rechunked(bands, header.shape, header.dtype, header.height)
    return description.with_pixels(pixels)


def _metadata_of(source: PictureMetadata) -> dict[str, Any]:
    return {field.name: getattr(source, field.name) for field in fields(PictureMetadata)}


class ReadingInParts(NamedTuple):
    """The possibility to read an image file row by row.

    Attributes:
        memory: bytes that it takes beside the rows that are asked for.
        open: gives the description and the rows, while the file is open.
    """

    memory: int
    open: Callable[[], tuple[Description, RowSource]]


class OpenedImage(NamedTuple):
    """An image file whose header has been read.

    Attributes:
        header: the header.
        decode: decodes it while the file is open.
        parts: reads it in parts; None if it can only be decoded as a whole.
    """

    header: Header
    decode: Callable[[], Picture]
    parts: ReadingInParts | None = None


def check_size(width: int, height: int, *, in_parts: bool = False) -> None:
    """Refuse images without pixels, and those with more than ``MAX_PIXELS`` that are decoded as a whole.

    Raises:
        InputError: saying which of the two.
    """
    if width < 1 or height < 1:
        msg = f"the image has no pixels: its header says {width}×{height}"
        raise InputError(msg)
    if width * height > MAX_PIXELS and not in_parts:
        msg = f"the image is {width}×{height}, {width * height:,} pixels; at most {MAX_PIXELS:,} are read at once"
        raise InputError(msg, "save it as a TIFF file of many strips or tiles, which is read in parts; or crop it")


def refuse_raw(is_raw: bool, camera: str) -> None:
    """Refuse a file that holds a camera's sensor data.

    Raises:
        InputError: if ``is_raw``.
    """
    if is_raw:
        named = f" ({camera})" if camera and camera.isprintable() else ""
        msg = f"the file is a camera raw file{named}: sensor data, with a small preview that is not the picture"
        hint = "develop it to a PNG or TIFF file with the camera's software, darktable or RawTherapee first"
        raise InputError(msg, hint)


def to_straight(pixels: Pixels) -> None:
    """Divide premultiplied colour by its alpha, in place."""
    peak = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:].astype(np.uint32)
    colour = (pixels[..., :-1] * np.uint32(peak) + alpha // 2) // np.maximum(alpha, 1)
    pixels[..., :-1] = np.where(alpha > 0, np.minimum(colour, peak), 0)


def widened(pixels: Pixels, bits: int) -> Pixels:
    """Stretch values of less than 8 bits to uint8, and those of 9 to 15 bits to uint16, over the full range."""
    if bits in (8, 16):
        return pixels
    depth = 8 if bits < 8 else 16
    peak = (1 << bits) - 1
    table = (np.arange(peak + 1) * ((1 << depth) - 1) + peak // 2) // peak
    values: Pixels = table.astype(np.uint8 if depth == 8 else np.uint16)
    return values[np.minimum(pixels, peak)]


def cicp_chunks(primaries: int, transfer: int) -> tuple[Chunk, ...]:
    """Return the chunk for a colour space by its numbers in ITU-T H.273; none for sRGB and what is taken for it."""
    if primaries in (0, 1, 2) and transfer in (0, 1, 2, 6, 13, 14, 15):
        return ()
    return ((b"cICP", bytes((primaries & 255, transfer & 255, 0, 1))),)


def to_eight_bits(pixels: Pixels) -> Pixels:
    """Round uint16 to uint8, 65535 becoming 255; return uint8 unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    # v / 257 rounded; a table avoids a wide intermediate the size of the picture.
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return table[pixels]


def make_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, ...) pixels upright from the way an EXIF orientation, 1 to 8, says they are stored."""
    if orientation == 1:
        return pixels
    turned = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    rows, columns = -1 if orientation in (3, 4, 7, 8) else 1, -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(turned[::rows, ::columns])


def profile_fits(icc_profile: bytes, channels: int) -> bool:
    """Tell whether a profile's own colour space is that of pixels with this many channels."""
    return icc_profile[16:20] == (b"GRAY" if channels < 3 else b"RGB ")


def plausible_dpi(dpi: object) -> tuple[float, float] | None:
    """Return a resolution as a pair of floats, or None unless it is two numbers from 1 to 65535."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and 1 <= value <= 65535 for value in (across, down)):
        return None
    return across, down
