"""The colours of a film: matrix, range, primaries and transfer of its pictures, and the light of HDR10.

The numbers are those of ITU-T H.273, as FFmpeg uses them. A picture says what its values mean, or nothing; then it is
taken as players take it: BT.709 if it is larger than 576 rows or 1279 columns, BT.601 otherwise, and limited range. The
result always says it, since a player would judge the enlarged picture by its own size.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkdn_deploy.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av
    from av.sidedata.sidedata import SideData

UNSPECIFIED = 2
_RGB = 0
_BT709, _BT470BG, _SMPTE170M, _BT2020 = 1, 5, 6, 9
LIMITED, FULL = 1, 2

_SCALERS = {_BT709: "bt709", 4: "fcc", _BT470BG: "bt470bg", _SMPTE170M: "smpte170m", 7: "smpte240m", _BT2020: "bt2020"}
"""Matrices that the conversion knows, and their names in FFmpeg's filters."""
_OTHERS = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp", 15: "IPT-C2"}

PQ = 16
"""The transfer of HDR10, SMPTE ST 2084."""


@dataclass(frozen=True, slots=True)
class Colours:
    """The meaning of a picture's values.

    Attributes:
        matrix: from R'G'B' to luma and chroma; 0 for a picture of RGB.
        range: 1 limited (16 to 235 of 8 bits), 2 full.
        primaries: of red, green and blue.
        transfer: from light to values.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int

    @property
    def scaler(self) -> str:
        """The matrix's name in FFmpeg's filters."""
        return _SCALERS[_BT709 if self.matrix == _RGB else self.matrix]

    @property
    def scaler_range(self) -> str:
        """The range's name in FFmpeg's filters."""
        return "pc" if self.range == FULL else "tv"

    def encoded_as(self, *, rgb: bool) -> "Colours":
        """Return the colours of a result of RGB, or of luma and chroma, in limited range if the film had RGB."""
        if rgb:
            return Colours(_RGB, FULL, self.primaries, self.transfer)
        return Colours(_BT709, LIMITED, self.primaries, self.transfer) if self.matrix == _RGB else self


def colours_of(frame: "av.VideoFrame") -> Colours:
    """Return the colours of a picture, with what it does not say filled in.

    Raises:
        InputError: if the matrix is one that cannot be converted.
    """
    matrix, range_ = int(frame.colorspace), int(frame.color_range)
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    large = frame.width >= 1280 or frame.height > 576
    standard = _BT709 if large else _BT470BG if frame.height == 576 else _SMPTE170M
    name = frame.format.name
    if name.startswith(("gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "pal", "x2rgb", "x2bgr")):
        matrix, range_ = _RGB, FULL
        standard = _BT709
    elif matrix in (UNSPECIFIED, _RGB, 3):
        matrix = _BT2020 if primaries == _BT2020 else standard
    if matrix != _RGB and matrix not in _SCALERS:
        msg = f"its colours are stored as {_OTHERS.get(matrix, f'matrix {matrix} of H.273')}, which cannot be converted"
        raise InputError(msg, "convert the film to BT.709 or BT.2020 first")
    if range_ not in (LIMITED, FULL):
        range_ = FULL if name.startswith("yuvj") else LIMITED
    if primaries in (UNSPECIFIED, 0, 3):
        primaries = _BT2020 if matrix == _BT2020 else standard
    if transfer in (UNSPECIFIED, 0, 3):
        transfer = 14 if matrix == _BT2020 else _BT709 if standard == _BT709 else _SMPTE170M
    return Colours(matrix, range_, primaries, transfer)


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """The screen on which an HDR10 film was mastered (SMPTE ST 2086).

    Attributes:
        points: x and y of red, green, blue and white.
        darkest: in candela per square metre.
        brightest: in candela per square metre.
    """

    points: tuple[tuple[float, float], ...]
    darkest: float
    brightest: float

    def for_x265(self) -> str:
        """Return it as x265 and x264 take it: in units of 0.00002, and 0.0001 candela per square metre."""
        red, green, blue, white = (f"({round(x * 50000)},{round(y * 50000)})" for x, y in self.points)
        light = f"({round(self.brightest * 10000)},{round(self.darkest * 10000)})"
        return f"G{green}B{blue}R{red}WP{white}L{light}"

    def for_svt_av1(self) -> str:
        """Return it as SVT-AV1 takes it."""
        red, green, blue, white = (f"({x:.5f},{y:.5f})" for x, y in self.points)
        return f"G{green}B{blue}R{red}WP{white}L({self.brightest:.4f},{self.darkest:.4f})"


@dataclass(frozen=True, slots=True)
class Hdr10:
    """The static metadata of HDR10.

    Attributes:
        display: the mastering display, if it is known.
        light: the brightest pixel and the brightest average of a picture, in candela per square metre.
    """

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None


def side_data(frame: "av.VideoFrame") -> "Iterator[SideData]":
    """Yield the data beside a picture."""
    yield from frame.side_data  # type: ignore[misc] # PyAV declares a mapping by name


def hdr10_of(frame: "av.VideoFrame") -> Hdr10:
    """Return the metadata that a picture carries; damaged values are left out."""
    display, light = None, None
    for side in side_data(frame):
        if side.type.name == "MASTERING_DISPLAY_METADATA":
            display = _display(side)
        elif side.type.name == "CONTENT_LIGHT_LEVEL" and len(bytes(side)) >= 8:
            brightest, average = struct.unpack("=2I", bytes(side)[:8])
            light = (brightest, average) if brightest < 1 << 16 and average < 1 << 16 else None
    return Hdr10(display, light)


def _display(side: "SideData") -> MasteringDisplay | None:
    data = bytes(side)
    if len(data) < 88:
        return None
    *fractions, has_points, has_light = struct.unpack("=20i2i", data[:88])
    pairs = list(zip(fractions[::2], fractions[1::2], strict=True))
    if not (has_points and has_light) or any(below <= 0 or above < 0 for above, below in pairs):
        return None
    values = [above / below for above, below in pairs]
    if max(values[:8]) > 1 or max(values[8:]) > 10000:
        return None
    return MasteringDisplay(tuple(zip(values[:8:2], values[1:8:2], strict=True)), values[8], values[9])
