"""TIFF files.

Pillow reads 16-bit colour as 8 bits and refuses 16-bit grey+alpha, so such pixels come from libtiff through
imagecodecs.
"""

import io
import struct
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import accumulate
from typing import IO, TypeVar

import numpy as np
from PIL import Image

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.bands import Bands, rechunked
from lkdn_deploy.imaging.files.compression import imagecodecs, zlib_stream
from lkdn_deploy.imaging.files.directory import (
    BYTE,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Field,
    Tags,
    integers,
    lay_out,
    layout_of,
    read_tags,
)
from lkdn_deploy.imaging.files.exif import descriptive_tags, exif_from_tags, parse_exif
from lkdn_deploy.imaging.files.picture import (
    MAX_PIXELS,
    Description,
    Header,
    OpenedImage,
    Picture,
    ReadingInParts,
    check_size,
    make_upright,
    plausible_dpi,
    profile_fits,
    refuse_raw,
    to_straight,
)
from lkdn_deploy.imaging.files.pillow import channels_of, from_pil, open_image, quiet, refuse_frames, xmp_of
from lkdn_deploy.imaging.files.tiff_rows import COMPRESSIONS, JPEG, Integers, SegmentGrid, TiffRows
from lkdn_deploy.imaging.pixels import Pixels

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _RESOLUTION_UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_SUBFILE_TYPE, _MAKE, _SUB_DIRECTORIES, _XMP, _IPTC, _DNG_VERSION = 254, 271, 330, 700, 33723, 50706
_SENSOR = (32803, 34892)  # photometric interpretations of camera raw files: colour filter array, linear raw
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC_PROFILE = 322, 323, 338, 339, 34675
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_FILL_ORDER, _TILE_OFFSETS, _TILE_BYTES, _JPEG_TABLES = 266, 324, 325, 347
_PREMULTIPLIED, _STRAIGHT = 1, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_DEFLATE, _HORIZONTAL_DIFFERENCES = 8, 2
_STRIP = 1 << 20  # bytes of samples
_CLASSIC = 2**32 - 2**26  # bytes of samples in files with offsets of 32 bits; the rest is for all else, and for growth


Described = TypeVar("Described", Picture, Description)


class _Directory:
    """The first directory of a file, as far as it decides how to read it. Sizes are as stored.

    Raises:
        InputError: for several pages, too large images, camera raw files, signed and floating-point samples, and more
            than 16 bits per sample.
    """

    def __init__(self, file: IO[bytes]) -> None:
        start = file.read(16)
        try:
            self.layout, first = layout_of(start)
            tags, following = read_tags(file, first, self.layout)
        except (ValueError, struct.error):
            tags, following = {}, 0
        self.tags = tags
        refuse_raw(_is_raw(start, tags), self._text(_MAKE))
        if not {_WIDTH, _HEIGHT} <= set(tags):
            msg = "the file is a TIFF without a whole directory"
            raise InputError(msg, "the file may be cut off or damaged")
        self.width, self.height = self._number(_WIDTH, 0), self._number(_HEIGHT, 0)
        self.bits = self._numbers(_BITS) or (1,)
        check_size(self.width, self.height, in_parts=True)
        self.samples = self._number(_SAMPLES, 1)
        self.photometric = self._number(_PHOTOMETRIC, 0)
        formats = set(self._numbers(_SAMPLE_FORMAT) or (_UNSIGNED,))
        if max(self.bits) > 16 or not formats <= {_UNSIGNED, _UNDEFINED}:
            signed = _SIGNED in formats and max(self.bits) <= 16
            what = "floating-point" if _FLOAT in formats else "signed integer" if signed else "integer"
            msg = f"the file holds {max(self.bits)}-bit {what} samples; expected unsigned integers of at most 16 bits"
            raise InputError(msg, "convert it to 16-bit PNG or TIFF first")
        if self.photometric == _PALETTE and max(self.bits) > 8:
            msg = f"the file holds a palette of {max(self.bits)} bits; expected at most 8"
            raise InputError(msg, "convert it to RGB first")
        self.extra = self._numbers(_EXTRA_SAMPLES)
        self.separate_planes = self._number(_PLANAR, 1) == 2
        orientation = self._number(_ORIENTATION, 1)
        self.orientation = orientation if orientation in range(1, 9) else 1
        self.icc_profile = self._bytes(_ICC_PROFILE)
        if self.is_deep and self.samples < self.colours:
            msg = f"the file is a damaged TIFF: {self.samples} samples per pixel for RGB"
            raise InputError(msg)
        # One tile is decoded into memory whole, however small the picture.
        if self._number(_TILE_WIDTH, 1) * self._number(_TILE_HEIGHT, 1) * self.samples > 4 * MAX_PIXELS:
            msg = "the file is a damaged TIFF: its tiles are larger than any picture"
            raise InputError(msg)
        refuse_frames(following > 0)

    def _numbers(self, tag: int) -> tuple[int, ...]:
        field = self.tags.get(tag)
        return tuple(int(value) for value in field.numbers) if isinstance(field, Field) else ()

    def _number(self, tag: int, default: int) -> int:
        return next(iter(self._numbers(tag)), default)

    def _array(self, tag: int) -> Integers:
        """Return the unsigned integers of a tag, of which there may be millions; none if they are others."""
        field = self.tags.get(tag)
        if not isinstance(field, Field) or field.kind not in (SHORT, LONG, LONG8):
            return np.empty(0, np.int64)
        unit = {SHORT: "<u2", LONG: "<u4", LONG8: "<u8"}[field.kind]
        return np.frombuffer(field.data, unit).astype(np.int64)

    def _bytes(self, tag: int) -> bytes | None:
        field = self.tags.get(tag)
        return field.data if isinstance(field, Field) and field.data else None

    def _text(self, tag: int) -> str:
        return (self._bytes(tag) or b"").split(b"\0")[0].decode("ascii", "replace").strip()

    def with_metadata(self, picture: Described) -> Described:
        """Return the picture, or its description, with the EXIF, XMP, IPTC and resolution of the file."""
        xmp, notes = xmp_of(self._bytes(_XMP))
        iptc = self._bytes(_IPTC)
        if iptc and self.tags[_IPTC].kind == LONG and self.layout.order == ">":  # type: ignore[union-attr]
            iptc = np.frombuffer(iptc, "<u4").astype(">u4").tobytes()  # they are bytes, whatever their type says
        picture = replace(picture, exif=exif_from_tags(self.tags), dpi=self._dpi(), xmp=xmp, iptc=iptc)
        return picture.with_notes(*notes)

    def _dpi(self) -> tuple[float, float] | None:
        per_inch = {2: 1.0, 3: 2.54}.get(self._number(_RESOLUTION_UNIT, 2))
        across, down = (self.tags.get(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        if per_inch is None or not (isinstance(across, Field) and isinstance(down, Field)):
            return None
        return plausible_dpi([value * per_inch for value in (*across.numbers[:1], *down.numbers[:1])])

    @property
    def is_deep(self) -> bool:
        """Whether the file holds 16-bit grey or RGB."""
        grey_or_rgb = self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        return grey_or_rgb and set(self.bits) == {16}

    @property
    def is_plain(self) -> bool:
        """Whether the file holds 8-bit grey or RGB in a layout that Pillow does not read: big-endian BigTIFF."""
        grey_or_rgb = self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        return self.layout == (">", True) and grey_or_rgb and set(self.bits) == {8}

    @property
    def colours(self) -> int:
        return 3 if self.photometric in (_RGB, _YCBCR) else 1

    @property
    def alpha(self) -> int:
        """Kind of the sample that follows the colours: straight, premultiplied, or 0 for none."""
        if self.samples <= self.colours:
            return 0
        kind = self.extra[0] if self.extra else _STRAIGHT
        return kind if kind in (_STRAIGHT, _PREMULTIPLIED) else 0

    @property
    def kept(self) -> int:
        """Number of samples that are read: colours and alpha."""
        return self.colours + bool(self.alpha)

    def grid(self, file_size: int) -> SegmentGrid | None:
        """Return where the samples are, if they can be decoded in parts: upright grey or RGB of 8 or 16 bits."""
        compression, predictor = self._number(_COMPRESSION, 1), self._number(_PREDICTOR, 1)
        tiled = _TILE_WIDTH in self.tags
        colours = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, *((_YCBCR,) if compression == JPEG else ()))
        as_whole = (
            set(self.bits) not in ({8}, {16})
            or compression not in COMPRESSIONS
            or (compression == JPEG and (self.bits[0] != 8 or self.samples not in (1, 3)))
            or predictor not in (1, _HORIZONTAL_DIFFERENCES)
            or self.photometric not in colours
            or self.samples < self.colours
            or (self.separate_planes and self.samples > 1)
            or self.orientation != 1
            or self._number(_FILL_ORDER, 1) != 1
            # Pillow divides by alpha in its own way.
            or (self.alpha == _PREMULTIPLIED and not (self.is_deep or self.is_plain))
        )
        if as_whole:
            return None
        rows, columns = self._number(_ROWS_PER_STRIP, self.height), self.width
        if tiled:
            rows, columns = self._number(_TILE_HEIGHT, 0), self._number(_TILE_WIDTH, 0)
        try:
            return SegmentGrid(
                self.height,
                self.width,
                self.samples,
                np.dtype(f"{self.layout.order}u{self.bits[0] // 8}"),
                rows if tiled else min(rows, self.height),
                columns,
                self._array(_TILE_OFFSETS if tiled else _STRIP_OFFSETS),
                self._array(_TILE_BYTES if tiled else _STRIP_BYTES),
                compression,
                predicted=predictor == _HORIZONTAL_DIFFERENCES,
                photometric=self.photometric,
                tables=self._bytes(_JPEG_TABLES),
            ).split(file_size)
        except ValueError:
            return None


def open_tiff(file: IO[bytes]) -> OpenedImage:
    """Open a TIFF file of at most 16 bits per sample.

    Raises:
        InputError: for several pages, too large images, floats and more than 16 bits per sample.
        OSError, SyntaxError, ValueError, LookupError: from Pillow, if the directory is damaged.
    """
    with quiet():
        directory = _Directory(file)
        file.seek(0)
        parts = _parts(file, directory)
        deep_or_plain = directory.is_deep or directory.is_plain
        large = directory.width * directory.height > MAX_PIXELS
        if large:
            check_size(directory.width, directory.height, in_parts=parts is not None)
        if large or deep_or_plain:
            depth, channels = directory.bits[0], directory.kept
            decode = partial(_decode_with_libtiff, file, directory)
        else:
            image = open_image("TIFF", file)
            depth, channels = 16 if image.mode.startswith("I;16") else 8, channels_of(image)
            decode = partial(_decode_with_pillow, image, directory)
    header = Header(directory.width, directory.height, channels, depth).upright(directory.orientation)
    return OpenedImage(header, decode, parts if (depth, channels) == (directory.bits[0], directory.kept) else None)


def _decode_with_libtiff(file: IO[bytes], directory: _Directory) -> Picture:
    """Decode 8- or 16-bit grey or RGB.

    Raises:
        InputError: if it is too large.
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError, LookupError: from imagecodecs, if the file is damaged.
    """
    check_size(directory.width, directory.height)
    codecs = imagecodecs()
    shape: tuple[int, ...] = (directory.height, directory.width)
    if directory.samples > 1:
        shape = (directory.samples, *shape) if directory.separate_planes else (*shape, directory.samples)
    file.seek(0)
    # libtiff decodes into an array of the header's size, so that no file can make it allocate more.
    decoded: Pixels = codecs.tiff_decode(
        file.read(), out=np.empty(shape, np.uint8 if directory.bits[0] == 8 else np.uint16)
    )
    if directory.samples == 1:
        decoded = decoded[..., None]
    elif directory.separate_planes:
        decoded = np.moveaxis(decoded, 0, 2)
    upright = make_upright(_pixels(directory, decoded), directory.orientation)
    return _described(directory, Picture(upright))


def _pixels(directory: _Directory, samples: Pixels) -> Pixels:
    """Return the pixels that samples (h, w, samples) of grey or RGB stand for; they may be overwritten."""
    if directory.photometric == _WHITE_IS_ZERO:
        samples[..., 0] = np.iinfo(samples.dtype).max - samples[..., 0]
    pixels = np.ascontiguousarray(samples[..., : directory.kept])
    if directory.alpha == _PREMULTIPLIED:
        to_straight(pixels)
    return pixels


def _described(directory: _Directory, picture: Described) -> Described:
    """Return the picture, or the description, with all metadata of a file of grey or RGB."""
    profile = directory.icc_profile
    if profile is not None and not profile_fits(profile, directory.kept):
        profile = None
        picture = picture.with_notes("its colour profile is for another colour space than its pixels and was left out")
    picture = directory.with_metadata(replace(picture, icc_profile=profile))
    return _with_note_on_extra(picture, directory.samples - directory.kept)


def _parts(file: IO[bytes], directory: _Directory) -> ReadingInParts | None:
    """Return how a file is read strip by strip, or tile by tile; None if it has to be decoded as a whole."""
    grid = directory.grid(file.seek(0, io.SEEK_END))
    file.seek(0)
    if grid is None:
        return None

    def opened() -> tuple[Description, TiffRows]:
        header = Header(directory.width, directory.height, directory.kept, directory.bits[0])
        rows = TiffRows(file, grid, partial(_pixels, directory), directory.kept)
        return _described(directory, Description(header)), rows

    return ReadingInParts(grid.memory, opened)


def _decode_with_pillow(image: Image.Image, directory: _Directory) -> Picture:
    """Decode any other file; undo or report what Pillow does to samples without saying so."""
    image.info.pop("xmp", None)
    picture = directory.with_metadata(from_pil(image))
    if directory.bits == (12,):
        wide = picture.pixels << 4 | picture.pixels >> 8
        picture = picture.with_pixels(wide).with_notes("widened from 12 to 16 bits per sample")
    elif max(directory.bits) > 8:
        picture = picture.with_notes(f"reduced from {max(directory.bits)} to 8 bits per sample")
    return _with_note_on_extra(picture, directory.extra.count(0))


def _with_note_on_extra(picture: Described, dropped: int) -> Described:
    note = f"{dropped} further channel(s), which are not alpha, were left out"
    return picture.with_notes(note) if dropped else picture


def write_tiff(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a little-endian TIFF: deflated strips of horizontal differences, with all metadata but texts.

    It is a BigTIFF if its samples take nearly 4 GiB or more, as offsets of other TIFF files have 32 bits.

    Args:
        file: to write to, from its start; it must be seekable, since the directory at the start has the strips' sizes.
            Only a few strips are held in memory.
        description: of a picture of any kind.
        bands: its rows.
        quality: has no effect.
        threads: number of threads that encode; the bytes do not depend on it.

    Raises:
        OSError: if ``file`` does.
        DeflateError, struct.error: if a strip cannot be deflated, or a tag has no place for its value.
    """
    header = description.header
    big = header.row_bytes * header.height > _CLASSIC
    rows = max(1, min(header.height, _STRIP // header.row_bytes))
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if big else b"II*\0" + struct.pack("<I", 8)
    offsets = LONG8 if big else LONG
    tags = _tags(description, rows)

    def start(sizes: list[int], first: int) -> bytes:
        """Return all that comes before the strips."""
        tags[_STRIP_BYTES] = integers(LONG, *sizes)
        tags[_STRIP_OFFSETS] = integers(offsets, *accumulate(sizes[:-1], initial=first))
        return head + lay_out(tags, len(head), big=big)

    strips = -(-header.height // rows)
    first = len(start([0] * strips, 0))
    file.write(bytes(first))
    sizes = []
    with closing(in_order(_deflated, rechunked(bands, header.shape, header.dtype, rows), threads)) as deflated:
        for strip in deflated:
            file.write(strip)
            sizes.append(len(strip))
    file.seek(0)
    file.write(start(sizes, first))
    file.seek(0, io.SEEK_END)


def _tags(description: Description, rows: int) -> Tags:
    """Return the tags of a file but for the places and sizes of its strips, each of ``rows`` rows."""
    header = description.header
    tags = descriptive_tags(parse_exif(description.exif)) | {
        _WIDTH: integers(LONG, header.width),
        _HEIGHT: integers(LONG, header.height),
        _BITS: integers(SHORT, *(header.depth,) * header.channels),
        _COMPRESSION: integers(SHORT, _DEFLATE),
        _PHOTOMETRIC: integers(SHORT, _RGB if header.channels > 2 else _BLACK_IS_ZERO),
        _ORIENTATION: integers(SHORT, 1),
        _SAMPLES: integers(SHORT, header.channels),
        _ROWS_PER_STRIP: integers(LONG, rows),
        _PLANAR: integers(SHORT, 1),
        _PREDICTOR: integers(SHORT, _HORIZONTAL_DIFFERENCES),
    }
    if header.channels in (2, 4):
        tags[_EXTRA_SAMPLES] = integers(SHORT, _STRAIGHT)
    if description.dpi is not None:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), description.dpi, strict=True):
            ratio = Fraction(value).limit_denominator(1000).as_integer_ratio()
            tags[tag] = integers(LONG, *ratio)._replace(kind=RATIONAL)
        tags[_RESOLUTION_UNIT] = integers(SHORT, 2)
    for tag, kind, data in (
        (_XMP, BYTE, description.xmp),
        (_IPTC, UNDEFINED, description.iptc),
        (_ICC_PROFILE, UNDEFINED, description.icc_profile),
    ):
        if data is not None:
            tags[tag] = Field(kind, data)
    return tags


def _deflated(rows: Pixels) -> bytes:
    differences = rows.copy()
    differences[:, 1:] -= rows[:, :-1]  # modulo 2**bits, as the predictor is defined
    return zlib_stream(differences.astype(differences.dtype.newbyteorder("<"), copy=False))


def _is_raw(start: bytes, tags: Tags) -> bool:
    """Return whether a camera wrote the file: its first directory holds sensor data, or a preview of it."""

    def number(tag: int) -> int:
        field = tags.get(tag)
        return int(next(iter(field.numbers), 0)) if isinstance(field, Field) else 0

    preview = number(_SUBFILE_TYPE) & 1 and _SUB_DIRECTORIES in tags
    return bool(start[8:10] == b"CR" or _DNG_VERSION in tags or number(_PHOTOMETRIC) in _SENSOR or preview)
