"""TIFF directories: what a header says, 16-bit pixels out of a file, and 8- or 16-bit pixels into one.

Pillow reads 16-bit colour TIFFs as 8 bits and refuses 16-bit grey+alpha, so their pixels come from libtiff
through imagecodecs. Directories are parsed and laid out by Pillow either way.
"""

from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.files.codecs import imagecodecs
from lkdn_deploy.imaging.files.deflate import zlib_stream
from lkdn_deploy.imaging.files.exif import descriptive_tags, exif_from_tags, parse_exif, sane_dpi
from lkdn_deploy.imaging.files.machine_code import loops_for
from lkdn_deploy.imaging.files.picture import MAX_PIXELS, Picture, check_size, make_upright
from lkdn_deploy.imaging.pixels import Pixels

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _RESOLUTION_UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC_PROFILE = 322, 323, 338, 339, 34675
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PREMULTIPLIED, _STRAIGHT = 1, 2
_UNSIGNED = 1
_DEFLATE, _DIFFERENCES = 8, 2
_STRIP_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """The first directory of a TIFF file, as far as it decides how to read it. Sizes are before turning."""

    width: int
    height: int
    bits: tuple[int, ...]
    unsigned: bool
    samples: int
    photometric: int
    extra: tuple[int, ...]
    separate_planes: bool
    orientation: int
    pages: bool
    icc_profile: bytes | None
    exif: bytes | None
    dpi: tuple[float, float] | None

    @property
    def is_deep(self) -> bool:
        """Whether the file holds 16-bit grey or RGB."""
        grey_or_rgb = self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        return self.unsigned and grey_or_rgb and set(self.bits) == {16}

    @property
    def colours(self) -> int:
        return 3 if self.photometric == _RGB else 1

    @property
    def alpha(self) -> int:
        """Kind of the sample that follows the colours: straight, premultiplied, or 0 for none."""
        if self.samples <= self.colours:
            return 0
        kind = self.extra[0] if self.extra else _STRAIGHT
        return kind if kind in (_STRAIGHT, _PREMULTIPLIED) else 0


def read_tiff_header(file: IO[bytes], name: str) -> TiffHeader:
    """The header of an open file, which begins as TIFF files do.

    Raises:
        InputError: for floats, for more than 16 bits a sample, and for sizes beyond ``MAX_PIXELS``.
    """
    file.seek(0)
    start = file.read(16)
    big = start[2:3] == b"+" or start[3:4] == b"+"
    tags = ImageFileDirectory_v2(start if big else start[:8])
    first = tags.next
    file.seek(first)
    tags.load(file)
    if tags.next == first or not {_WIDTH, _HEIGHT} <= set(tags):
        msg = f"{name} is a TIFF without a whole directory"
        raise InputError(msg, "the file may be cut off or damaged")
    bits = _integers(tags.get(_BITS, 1))
    formats = _integers(tags.get(_SAMPLE_FORMAT, _UNSIGNED))
    if max(bits) > 16 or not set(formats) <= {1, 2, 4}:
        what = "floating-point" if 3 in formats else "integer"
        msg = f"{name} holds {max(bits)}-bit {what} samples; expected integers of at most 16 bits"
        raise InputError(msg, "convert it to 16-bit PNG or TIFF first")
    width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    check_size(width, height, name)
    orientation = tags.get(_ORIENTATION, 1)
    profile = tags.get(_ICC_PROFILE)
    header = TiffHeader(
        width=width,
        height=height,
        bits=bits,
        unsigned=set(formats) <= {1, 4},
        samples=int(tags.get(_SAMPLES, 1)),
        photometric=int(tags.get(_PHOTOMETRIC, 0)),
        extra=_integers(tags.get(_EXTRA_SAMPLES, ())),
        separate_planes=tags.get(_PLANAR, 1) == 2,
        orientation=orientation if orientation in range(1, 9) else 1,
        pages=bool(tags.next),
        icc_profile=profile if isinstance(profile, bytes) and profile else None,
        exif=_exif(file, start, first),
        dpi=_dpi(tags),
    )
    if header.is_deep and header.samples < header.colours:
        msg = f"{name} is a damaged TIFF: {header.samples} samples a pixel for RGB"
        raise InputError(msg)
    # One tile is decoded into memory whole, however small the picture.
    if int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_HEIGHT, 1)) * header.samples > 4 * MAX_PIXELS:
        msg = f"{name} is a damaged TIFF: its tiles are larger than any picture"
        raise InputError(msg)
    return header


def decode_deep_tiff(data: bytes, header: TiffHeader) -> Picture:
    """The picture of a file for which ``header.is_deep``.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError, LookupError: from imagecodecs, if the file is damaged.
    """
    codecs = imagecodecs()
    shape: tuple[int, ...] = (header.height, header.width)
    if header.samples > 1:
        size, samples = shape, header.samples
        shape = (samples, *size) if header.separate_planes else (*size, samples)
    # Given the place to decode to, the library cannot be talked into more than the header said.
    decoded: Pixels = codecs.tiff_decode(data, out=np.empty(shape, np.uint16))
    if header.samples == 1:
        decoded = decoded[..., None]
    elif header.separate_planes:
        decoded = np.moveaxis(decoded, 0, 2)
    if header.photometric == _WHITE_IS_ZERO:
        decoded[..., 0] = 65535 - decoded[..., 0]
    kept = header.colours + bool(header.alpha)
    pixels = np.ascontiguousarray(decoded[..., :kept])
    if header.alpha == _PREMULTIPLIED:
        _to_straight(pixels)
    dropped = header.samples - kept
    notes = (f"{dropped} further channel(s), which are not alpha, were left out",) if dropped else ()
    return Picture(make_upright(pixels, header.orientation), header.icc_profile, header.exif, header.dpi, notes)


def write_tiff(file: IO[bytes], picture: Picture, threads: int) -> None:
    """Write a little-endian TIFF: deflated strips of horizontal differences, with profile, EXIF and resolution."""
    height, width, channels = picture.pixels.shape
    rows = max(1, min(height, _STRIP_SIZE // (width * channels * picture.pixels.dtype.itemsize)))
    parts = (picture.pixels[top : top + rows] for top in range(0, height, rows))
    strips = list(in_order(partial(_deflated, loops_for(picture.pixels.nbytes)), parts, threads))
    sizes = [len(strip) for strip in strips]
    tags = ImageFileDirectory_v2()
    for tag, value in descriptive_tags(parse_exif(picture.exif)).items():
        tags[tag] = value
    tags[_WIDTH], tags[_HEIGHT] = width, height
    tags[_BITS], tags[_SAMPLES] = (picture.depth,) * channels, channels
    tags[_PHOTOMETRIC], tags[_PLANAR], tags[_ORIENTATION] = (_RGB if channels > 2 else _BLACK_IS_ZERO), 1, 1
    tags[_COMPRESSION], tags[_PREDICTOR], tags[_ROWS_PER_STRIP] = _DEFLATE, _DIFFERENCES, rows
    if channels in (2, 4):
        tags[_EXTRA_SAMPLES] = _STRAIGHT
    if picture.icc_profile is not None:
        tags[_ICC_PROFILE] = picture.icc_profile
    if picture.dpi is not None:
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION], tags[_RESOLUTION_UNIT] = *picture.dpi, 2
    # From the end of the directory, which Pillow adds when it lays the directory out.
    tags[_STRIP_OFFSETS] = tuple(sum(sizes[:index]) for index in range(len(sizes)))
    tags[_STRIP_BYTES] = tuple(sizes)
    tags.tagtype[_STRIP_OFFSETS] = tags.tagtype[_STRIP_BYTES] = TiffTags.LONG
    tags.save(file)
    for strip in strips:
        file.write(strip)


def _deflated(loops: "Loops | None", rows: Pixels) -> bytes:
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]  # modulo 2**bits, as the predictor is defined
    return zlib_stream(differences.astype(differences.dtype.newbyteorder("<"), copy=False), loops)


def _to_straight(pixels: Pixels) -> None:
    """Divide premultiplied uint16 colour by its alpha, in place."""
    alpha = pixels[..., -1:].astype(np.uint32)
    colour = (pixels[..., :-1] * np.uint32(65535) + alpha // 2) // np.maximum(alpha, 1)
    pixels[..., :-1] = np.where(alpha > 0, np.minimum(colour, 65535), 0)


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in value) if isinstance(value, tuple) else (int(value),)


def _exif(file: IO[bytes], start: bytes, directory: int) -> bytes | None:
    exif = Image.Exif()
    exif.endian = "<" if start[:2] == b"II" else ">"
    exif.bigtiff = b"+" in start[2:4]
    try:
        exif.load_from_fp(file, directory)
        exif.bigtiff = False
        return exif_from_tags(exif)
    except Exception:  # damaged EXIF must not keep the picture from being read
        return None


def _dpi(tags: ImageFileDirectory_v2) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2))
    if per_inch is None:
        return None
    try:
        return sane_dpi((float(tags[_X_RESOLUTION]) * per_inch, float(tags[_Y_RESOLUTION]) * per_inch))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
