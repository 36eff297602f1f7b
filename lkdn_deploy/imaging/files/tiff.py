"""TIFF files.

Pillow reads 16-bit colour as 8 bits and refuses 16-bit grey+alpha, so such pixels come from libtiff through
imagecodecs. Directories are parsed and laid out by Pillow either way.
"""

from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffTags

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.files.compression import imagecodecs, zlib_stream
from lkdn_deploy.imaging.files.exif import descriptive_tags, exif_from_tags, parse_exif
from lkdn_deploy.imaging.files.picture import (
    MAX_PIXELS,
    Header,
    OpenedImage,
    Picture,
    check_size,
    make_upright,
    plausible_dpi,
)
from lkdn_deploy.imaging.files.pillow import channels_of, from_pil, open_image, quiet, refuse_frames
from lkdn_deploy.imaging.pixels import Pixels

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _RESOLUTION_UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC_PROFILE = 322, 323, 338, 339, 34675
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PREMULTIPLIED, _STRAIGHT = 1, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_DEFLATE, _HORIZONTAL_DIFFERENCES = 8, 2
_STRIP = 1 << 20  # bytes of samples


def _new_directory(start: bytes = b"II*\0\0\0\0\0") -> "ImageFileDirectory_v2":
    from PIL.TiffImagePlugin import ImageFileDirectory_v2  # takes 9 ms to import, and few pictures need it

    return ImageFileDirectory_v2(start)


class _Directory:
    """The first directory of a file, as far as it decides how to read it. Sizes are as stored.

    Raises:
        InputError: for several pages, too large images, floats and more than 16 bits per sample.
    """

    def __init__(self, file: IO[bytes]) -> None:
        start = file.read(16)
        tags = _new_directory(start if b"+" in start[2:4] else start[:8])  # BigTIFF has the longer header
        first = tags.next
        file.seek(first)
        tags.load(file)
        if tags.next == first or not {_WIDTH, _HEIGHT} <= set(tags):
            msg = "the file is a TIFF without a whole directory"
            raise InputError(msg, "the file may be cut off or damaged")
        self.width, self.height, self.bits = int(tags[_WIDTH]), int(tags[_HEIGHT]), _integers(tags.get(_BITS, 1))
        check_size(self.width, self.height)
        formats = set(_integers(tags.get(_SAMPLE_FORMAT, _UNSIGNED)))
        if max(self.bits) > 16 or not formats <= {_UNSIGNED, _SIGNED, _UNDEFINED}:
            what = "floating-point" if _FLOAT in formats else "integer"
            msg = f"the file holds {max(self.bits)}-bit {what} samples; expected integers of at most 16 bits"
            raise InputError(msg, "convert it to 16-bit PNG or TIFF first")
        self.unsigned = formats <= {_UNSIGNED, _UNDEFINED}
        self.samples = int(tags.get(_SAMPLES, 1))
        self.photometric = int(tags.get(_PHOTOMETRIC, 0))
        self.extra = _integers(tags.get(_EXTRA_SAMPLES, ()))
        self.separate_planes = tags.get(_PLANAR, 1) == 2
        orientation, profile = tags.get(_ORIENTATION, 1), tags.get(_ICC_PROFILE)
        self.orientation = orientation if orientation in range(1, 9) else 1
        self.icc_profile = profile if isinstance(profile, bytes) and profile else None
        self.exif, self.dpi = _exif(file, start, first), _dpi(tags)
        if self.is_deep and self.samples < self.colours:
            msg = f"the file is a damaged TIFF: {self.samples} samples per pixel for RGB"
            raise InputError(msg)
        # One tile is decoded into memory whole, however small the picture.
        if int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_HEIGHT, 1)) * self.samples > 4 * MAX_PIXELS:
            msg = "the file is a damaged TIFF: its tiles are larger than any picture"
            raise InputError(msg)
        refuse_frames(bool(tags.next))

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


def open_tiff(file: IO[bytes]) -> OpenedImage:
    """Open a TIFF file of at most 16 bits per sample.

    Raises:
        InputError: for several pages, too large images, floats and more than 16 bits per sample.
        OSError, SyntaxError, ValueError, LookupError: from Pillow, if the directory is damaged.
    """
    with quiet():
        directory = _Directory(file)
        file.seek(0)
        if directory.is_deep:
            depth, channels = 16, directory.colours + bool(directory.alpha)
            decode = partial(_decode_deep, file, directory)
        else:
            image = open_image("TIFF", file)
            depth, channels = 16 if image.mode.startswith("I;16") else 8, channels_of(image)
            decode = partial(_decode_with_pillow, image, directory)
    header = Header(directory.width, directory.height, channels, depth).upright(directory.orientation)
    return OpenedImage(header, decode)


def _decode_deep(file: IO[bytes], directory: _Directory) -> Picture:
    """Decode a file for which ``directory.is_deep``.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError, LookupError: from imagecodecs, if the file is damaged.
    """
    codecs = imagecodecs()
    shape: tuple[int, ...] = (directory.height, directory.width)
    if directory.samples > 1:
        shape = (directory.samples, *shape) if directory.separate_planes else (*shape, directory.samples)
    file.seek(0)
    # libtiff decodes into an array of the header's size, so that no file can make it allocate more.
    decoded: Pixels = codecs.tiff_decode(file.read(), out=np.empty(shape, np.uint16))
    if directory.samples == 1:
        decoded = decoded[..., None]
    elif directory.separate_planes:
        decoded = np.moveaxis(decoded, 0, 2)
    if directory.photometric == _WHITE_IS_ZERO:
        decoded[..., 0] = 65535 - decoded[..., 0]
    kept = directory.colours + bool(directory.alpha)
    pixels = np.ascontiguousarray(decoded[..., :kept])
    if directory.alpha == _PREMULTIPLIED:
        _to_straight(pixels)
    upright = make_upright(pixels, directory.orientation)
    picture = Picture(upright, directory.icc_profile, directory.exif, directory.dpi)
    return _with_note_on_extra(picture, directory.samples - kept)


def _decode_with_pillow(image: Image.Image, directory: _Directory) -> Picture:
    """Decode any other file; undo or report what Pillow does to samples without saying so."""
    picture = from_pil(image)
    if directory.bits == (12,):
        wide = picture.pixels << 4 | picture.pixels >> 8
        picture = picture.with_pixels(wide).with_notes("widened from 12 to 16 bits per sample")
    elif max(directory.bits) > 8:
        picture = picture.with_notes(f"reduced from {max(directory.bits)} to 8 bits per sample")
    return _with_note_on_extra(picture, directory.extra.count(0))


def _with_note_on_extra(picture: Picture, dropped: int) -> Picture:
    note = f"{dropped} further channel(s), which are not alpha, were left out"
    return picture.with_notes(note) if dropped else picture


def write_tiff(file: IO[bytes], picture: Picture, quality: int, threads: int) -> None:
    """Write a little-endian TIFF: deflated strips of horizontal differences, with profile, EXIF and resolution.

    Args:
        file: to write to, from its start. All compressed strips are held in memory.
        picture: of any kind.
        quality: has no effect.
        threads: number of threads that encode; the bytes do not depend on it.

    Raises:
        OSError: if ``file`` does.
        DeflateError, struct.error: if a strip cannot be deflated, or a tag has no place for its value.
    """
    height, width, channels = picture.pixels.shape
    rows = max(1, min(height, _STRIP // (width * channels * picture.pixels.dtype.itemsize)))
    parts = (picture.pixels[top : top + rows] for top in range(0, height, rows))
    strips = list(in_order(_deflated, parts, threads))
    sizes = [len(strip) for strip in strips]
    tags = _new_directory()
    for tag, value in descriptive_tags(parse_exif(picture.exif)).items():
        tags[tag] = value
    tags[_WIDTH], tags[_HEIGHT] = width, height
    tags[_BITS], tags[_SAMPLES] = (picture.depth,) * channels, channels
    tags[_PHOTOMETRIC], tags[_PLANAR], tags[_ORIENTATION] = (_RGB if channels > 2 else _BLACK_IS_ZERO), 1, 1
    tags[_COMPRESSION], tags[_PREDICTOR], tags[_ROWS_PER_STRIP] = _DEFLATE, _HORIZONTAL_DIFFERENCES, rows
    if channels in (2, 4):
        tags[_EXTRA_SAMPLES] = _STRAIGHT
    if picture.icc_profile is not None:
        tags[_ICC_PROFILE] = picture.icc_profile
    if picture.dpi is not None:
        tags[_X_RESOLUTION], tags[_Y_RESOLUTION], tags[_RESOLUTION_UNIT] = *picture.dpi, 2
    # Relative to the end of the directory, which Pillow adds when it lays the directory out.
    tags[_STRIP_OFFSETS] = tuple(sum(sizes[:index]) for index in range(len(sizes)))
    tags[_STRIP_BYTES] = tuple(sizes)
    tags.tagtype[_STRIP_OFFSETS] = tags.tagtype[_STRIP_BYTES] = TiffTags.LONG
    tags.save(file)
    for strip in strips:
        file.write(strip)


def _deflated(rows: Pixels) -> bytes:
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]  # modulo 2**bits, as the predictor is defined
    return zlib_stream(differences.astype(differences.dtype.newbyteorder("<"), copy=False))


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


def _dpi(tags: "ImageFileDirectory_v2") -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2))
    if per_inch is None:
        return None
    try:
        return plausible_dpi((float(tags[_X_RESOLUTION]) * per_inch, float(tags[_Y_RESOLUTION]) * per_inch))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
