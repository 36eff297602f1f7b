"""The value that image files are read into and written from."""

from dataclasses import dataclass, replace

import numpy as np

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.pixels import Pixels

# Half a GiB as 8-bit RGB, and where Pillow, too, turns from a warning to an error. A few kilobytes of file can
# claim any size.
MAX_PIXELS = 178_956_970


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header promises about the upright picture, known without decoding a pixel.

    ``channels`` and ``depth`` are those that reading gives: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA, and 8 or 16.
    ``format`` is the file's own: PNG, JPEG, WEBP, TIFF, BMP or GIF.
    """

    width: int
    height: int
    channels: int
    depth: int
    format: str


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Pixels as they are to be looked at, and what the file said about them.

    Attributes:
        pixels: (H, W, C) uint8 or uint16 over the full range of the type; C is 1 grey, 2 grey+alpha, 3 RGB or
            4 RGBA, and alpha is straight (not premultiplied).
        icc_profile: the embedded colour profile; None means sRGB, or unknown.
        exif: an EXIF block, beginning with ``Exif\\0\\0``; its orientation is normal, for the pixels are upright.
        dpi: pixels per inch, (horizontal, vertical).
        notes: what the user must be told, a sentence each.

    Raises:
        UsageError: for pixels of another shape or type.
    """

    pixels: Pixels
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

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
        """Bits a sample: 8 or 16."""
        return int(self.pixels.dtype.itemsize) * 8

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """Other pixels under the same profile, EXIF, resolution and notes."""
        return replace(self, pixels=pixels)

    def with_notes(self, *notes: str) -> "Picture":
        """The same picture with more to tell."""
        return replace(self, notes=self.notes + notes)


def check_size(width: int, height: int, name: str) -> None:
    """Refuse what no picture may have: no pixels, or more than ``MAX_PIXELS``.

    Raises:
        InputError: naming ``name``, the file.
    """
    if width < 1 or height < 1:
        msg = f"{name} has no pixels: its header says {width}×{height}"
        raise InputError(msg)
    if width * height > MAX_PIXELS:
        msg = f"{name} is {width}×{height}, {width * height:,} pixels; at most {MAX_PIXELS:,} are read"
        raise InputError(msg, "crop it or cut it into parts first")


def to_eight_bits(pixels: Pixels) -> Pixels:
    """Round uint16 to uint8, 65535 becoming 255; uint8 passes as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    # v / 257 rounded; a table keeps the wide intermediate off the picture.
    table = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return table[pixels]


def make_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn (H, W, ...) pixels as an EXIF orientation, 1 to 8, says they are to be seen."""
    match orientation:
        case 2:
            turned = pixels[:, ::-1]
        case 3:
            turned = pixels[::-1, ::-1]
        case 4:
            turned = pixels[::-1]
        case 5:
            turned = pixels.swapaxes(0, 1)
        case 6:
            turned = pixels.swapaxes(0, 1)[:, ::-1]
        case 7:
            turned = pixels.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            turned = pixels.swapaxes(0, 1)[::-1]
        case _:
            return pixels
    return np.ascontiguousarray(turned)
