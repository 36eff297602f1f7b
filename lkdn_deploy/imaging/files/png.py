"""PNG files.

Pillow parses the chunks. Samples are decoded by libspng through imagecodecs, in little more than half of Pillow's time
and without Python's lock, and 16-bit ones by libpng, since Pillow keeps 16 bits for grey only. Files are written in
stripes of rows, which several threads filter and deflate independently of each other.
"""

import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from zlib_ng import zlib_ng

from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.core.threads import in_order
from lkdn_deploy.imaging.bands import Bands, rechunked
from lkdn_deploy.imaging.files.compression import STREAM_HEAD, DeflateError, deflate_blocks, imagecodecs
from lkdn_deploy.imaging.files.exif import EXIF_PREFIX, orientation_of
from lkdn_deploy.imaging.files.picture import Chunk, Description, Header, OpenedImage, Picture
from lkdn_deploy.imaging.files.pillow import channels_of, from_pil, open_image, quiet, with_metadata_of
from lkdn_deploy.imaging.files.xmp import MAX_XMP
from lkdn_deploy.imaging.pixels import Pixels

Bytes = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_INCH = 0.0254  # metres
_ADLER_BASE = 65521
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_COLOUR_SIZES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}  # bytes
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_PROFILES = (
    b"Raw profile type exif\0",
    b"Raw profile type APP1\0",
    b"Raw profile type icc\0",
    b"Raw profile type xmp\0",
)
_MAX_CHUNK = 2**31 - 1  # bytes

# Bytes of samples in a stripe: so many that its own Huffman codes, and its start without any history, cost 0.1 % of
# the file.
_STRIPE = 1 << 21

NONE, SUB, UP, PAETH = 0, 1, 2, 4  # filters of the PNG standard; its average, 3, is seldom better than Paeth's
_FILTERS = np.array([NONE, SUB, UP, PAETH], np.uint8)
_SAMPLED = 17  # one byte of a row in so many decides on its filter; a prime, to meet every byte of a pixel
_IN_CACHE = 1 << 16  # bytes filtered at once: what lies between the steps stays in the processor's cache


def open_png(file: IO[bytes]) -> OpenedImage:
    """Open a PNG file of 1 to 16 bits per sample.

    Raises:
        InputError: for animations and too large images.
        OSError, SyntaxError, ValueError: from Pillow, if the header is damaged.
    """
    with quiet():
        image = open_image("PNG", file)
        file.seek(len(SIGNATURE) + 16)  # in IHDR, which always comes first, behind length, name, width and height
        depth = file.read(1)[0]
        found = _read_metadata(file)
        if not {"exif", "Raw profile type exif"} & set(image.info):
            image.info["exif"] = found.exif
        image.info["xmp"] = found.xmp
        channels = channels_of(image)
        # Pillow presents 16-bit grey+alpha as RGBA; the way it unpacks the samples tells them apart.
        tiles = getattr(image, "tile", [])
        if depth == 16 and image.mode == "RGBA" and tiles and str(tiles[0][3]).startswith("LA"):
            channels = 2
        header = Header(image.width, image.height, channels, max(depth, 8)).upright(orientation_of(image))
    return OpenedImage(header, partial(_decode, file, image, depth, channels, found))


class _Metadata(NamedTuple):
    """Contents of the chunks that do not hold pixels, wherever they stand."""

    exif: bytes
    xmp: bytes
    texts: tuple[Chunk, ...]
    colour: tuple[Chunk, ...]
    notes: tuple[str, ...]


def _read_metadata(file: IO[bytes]) -> _Metadata:
    """Read the chunks of metadata, skipping over all others.

    Pillow decodes all pixels to look for those behind them.
    """
    file.seek(len(SIGNATURE))
    exif, xmp, notes, left = b"", b"", [], MAX_XMP
    texts: list[Chunk] = []
    colour: dict[bytes, bytes] = {}
    pixels_seen = False
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        pixels_seen |= kind == b"IDAT"
        size = _COLOUR_SIZES.get(kind)
        if kind == b"tRNS" and pixels_seen:
            notes.append("its transparency was left out: it stands behind the pixels, where it has no effect")
        if kind not in (b"eXIf", *_TEXTS) and (length != size or pixels_seen):
            file.seek(length + 4, 1)
            continue
        left -= length
        if left < 0:
            notes.append("texts and other metadata beyond 16 MiB were left out")
            break
        data = file.read(length)
        checksum = file.read(4)
        if kind == b"eXIf":
            exif = exif or EXIF_PREFIX + data
        elif checksum != struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))):
            notes.append(f"a damaged {kind.decode()} chunk was left out")
        elif size is not None:
            colour.setdefault(kind, data)
        elif data.startswith(_XMP_KEYWORD):
            xmp = xmp or _xmp_text(data)
        elif not data.startswith(_PROFILES):
            texts.append((kind, data))
    return _Metadata(exif, xmp, tuple(texts), tuple(colour.items()), tuple(notes))


def _xmp_text(data: bytes) -> bytes:
    """Return the text of an iTXt chunk of XMP; nothing if it is damaged or too large."""
    compressed, rest = data[len(_XMP_KEYWORD) :][:1], data[len(_XMP_KEYWORD) + 2 :]
    text = rest.split(b"\0", 2)[-1]  # behind language and translated keyword
    if compressed != b"\1":
        return text
    inflate = zlib_ng.decompressobj()
    try:
        text = inflate.decompress(text, MAX_XMP)
    except DeflateError:
        return b""
    return b"" if inflate.unconsumed_tail else text


def _checksums_fit(data: bytes) -> bool:
    """Return whether the checksum of every chunk of pixels is right."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            stored = data[at + 8 + length : at + 12 + length]
            if zlib_ng.crc32(memoryview(data)[at + 4 : at + 8 + length]).to_bytes(4, "big")[: len(stored)] != stored:
                return False
        at += 12 + length
    return True


def _decode(file: IO[bytes], image: Image.Image, depth: int, channels: int, found: _Metadata) -> Picture:
    """Decode an opened file.

    Raises:
        MissingError: for 16 bits if imagecodecs is not installed.
        InputError, RuntimeError, ValueError: if the file is damaged.
    """
    file.seek(0)
    data = file.read()
    picture = _decode_pixels(data, image, depth, channels)
    if not _checksums_fit(data):
        picture = picture.with_notes("a checksum of its pixels is wrong: the picture may be damaged")
    return replace(picture, texts=found.texts, colour=found.colour).with_notes(*found.notes)


def _decode_pixels(data: bytes, image: Image.Image, depth: int, channels: int) -> Picture:
    key = image.info.get("transparency")
    if depth == 16 or (depth == 8 and image.mode in ("L", "RGB", "RGBA") and key is None):
        shape = (image.height, image.width) + (channels,) * (channels > 1)
        # libpng and libspng decode into an array of the header's size, so that no file can make them allocate more.
        out = np.empty(shape, np.uint16 if depth == 16 else np.uint8)
        try:
            codecs = imagecodecs()
            decode = codecs.png_decode if depth == 16 else codecs.spng_decode
            pixels = np.asarray(decode(data, out=out)).reshape(*shape[:2], channels)
        except (RuntimeError, MissingError):
            if depth == 16:
                raise
            return from_pil(image)  # reads some slightly damaged files, and says what is wrong with others
        return with_metadata_of(image, pixels)
    if depth < 8 and image.mode in ("1", "L") and isinstance(key, int):
        # Pillow widens the samples to 8 bits but not always the colour key.
        image.info["transparency"] = 255 * bool(key) if depth == 1 else key * 255 // (2**depth - 1)
    return from_pil(image)


def write_png(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a PNG file of 8 or 16 bits per sample, with all metadata.

    Args:
        file: to write to. Only a few stripes are held in memory.
        description: of a picture of any kind.
        bands: its rows.
        quality: has no effect.
        threads: number of threads that encode; the bytes do not depend on it.

    Raises:
        OSError: if ``file`` does.
        DeflateError, MemoryError: if a stripe cannot be deflated.
    """
    file.write(SIGNATURE)
    _write_head(file, description)
    header = description.header
    rows = max(1, _STRIPE // header.row_bytes)
    checksum, head = 1, STREAM_HEAD
    parts = _with_row_above(rechunked(bands, header.shape, header.dtype, rows))
    with closing(in_order(_encode, parts, threads)) as stripes:
        for stripe in stripes:
            checksum = _adler32_combine(checksum, stripe.checksum, stripe.size)
            data, head = head + stripe.deflated, b""
            for start in range(0, len(data), _MAX_CHUNK):
                _write_chunk(file, b"IDAT", data[start : start + _MAX_CHUNK])
    _write_chunk(file, b"IDAT", b"\x03\0" + struct.pack(">I", checksum))  # a last, empty block
    _write_chunk(file, b"IEND", b"")


def _write_head(file: IO[bytes], description: Description) -> None:
    """Write all chunks that come before the pixels."""
    header = description.header
    colour_type = _COLOUR_TYPES[header.channels]
    _write_chunk(
        file, b"IHDR", struct.pack(">IIBBBBB", header.width, header.height, header.depth, colour_type, 0, 0, 0)
    )
    if description.icc_profile is not None:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib_ng.compress(description.icc_profile))
    for kind, data in description.colour:
        _write_chunk(file, kind, data)
    if description.dpi is not None:
        per_metre = (min(round(value / _INCH), 2**31 - 1) for value in description.dpi)
        _write_chunk(file, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if description.exif is not None:
        _write_chunk(file, b"eXIf", description.exif.removeprefix(EXIF_PREFIX))
    if description.xmp is not None:
        _write_chunk(file, b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + description.xmp)
    for kind, data in description.texts:
        _write_chunk(file, kind, data)


def _adler32_combine(first: int, second: int, size: int) -> int:
    """Return the Adler-32 checksum of two concatenated parts.

    RFC 1950: the lower half is 1 plus the sum of the bytes, the upper half the sum of the lower's values after each.

    Args:
        first: checksum of the first part.
        second: checksum of the second part.
        size: bytes of the second part.
    """
    before = (first & 0xFFFF) - 1
    lower = before + (second & 0xFFFF)
    upper = (first >> 16) + (second >> 16) + size * before
    return (upper % _ADLER_BASE) << 16 | lower % _ADLER_BASE


class _EncodedStripe(NamedTuple):
    """Rows as part of a zlib stream, with the checksum and the number of the bytes before deflating."""

    deflated: bytes
    checksum: int
    size: int


def _with_row_above(stripes: Bands) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield each stripe with the row above it, which is zero for the first."""
    above: Pixels | None = None
    for rows in stripes:
        yield np.zeros_like(rows[:1]) if above is None else above, rows
        above = rows[-1:].copy()  # a view would keep the whole band, and so would ``rows``
        del rows


def _encode(stripe: tuple[Pixels, Pixels]) -> _EncodedStripe:
    above, rows = stripe
    samples = np.empty((1 + len(rows), *rows.shape[1:]), rows.dtype.newbyteorder(">"))
    samples[:1], samples[1:] = above, rows
    filtered = _filtered(samples.view(np.uint8).reshape(len(samples), -1), rows.shape[2] * rows.itemsize)
    return _EncodedStripe(deflate_blocks(filtered), zlib_ng.adler32(filtered), filtered.size)


def _write_chunk(file: IO[bytes], kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind)
    file.write(data)
    file.write(struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))))


def _filtered(samples: Bytes, pixel: int) -> Bytes:
    """Filter rows, putting the number of its filter before each.

    Args:
        samples: (1 + rows, bytes per row), contiguous; the first is the row above.
        pixel: bytes per pixel.
    """
    height, width = samples.shape[0] - 1, samples.shape[1]
    out = np.empty((height, 1 + width), np.uint8)
    out[:, 0] = _choose_filters(samples, pixel)
    step = max(1, _IN_CACHE // width)
    for top in range(0, height, step):
        _filter_rows(samples[top : top + step + 1], pixel, out[top : top + step])
    return out


def _choose_filters(samples: Bytes, pixel: int) -> Bytes:
    """Return the filter of each row with the least sum of absolute differences: the PNG standard's heuristic."""
    some = np.ascontiguousarray(samples[:, ::_SAMPLED])
    left = np.zeros_like(some)
    left[:, 1:] = samples[:, _SAMPLED - pixel :: _SAMPLED][:, : some.shape[1] - 1]
    plain, above, corner, left = some[1:], some[:-1], left[:-1], left[1:]
    candidates = (plain, plain - left, plain - above, plain - _paeth(left, above, corner))
    # The sums of the longest rows may wrap, which makes only the choice worse.
    sums = [np.abs(rows.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32) for rows in candidates]
    chosen: Bytes = _FILTERS[np.argmin(sums, axis=0)]
    return chosen


def _filter_rows(samples: Bytes, pixel: int, out: Bytes) -> None:
    """Filter each row by the filter whose number is in the first column of ``out``."""
    rows, above, filters = samples[1:], samples[:-1], out[:, 0]
    for index, number in enumerate(set(filters.tolist())):
        predicted = _predicted(number, rows, above, pixel)
        if index == 0:  # all rows, as most often they have one filter; other filters then replace their own
            np.subtract(rows, predicted, out=out[:, 1:])
        else:
            these = filters == number
            out[these, 1:] = rows[these] - predicted[these]


def _predicted(number: int, rows: Bytes, above: Bytes, pixel: int) -> Bytes:
    """Return what a filter subtracts from the rows. Left of the picture are zeros."""
    if number == UP:
        return above
    if number == PAETH:
        # All rows as one line, in which the end of one is left of the next; then each row's first pixel is mended.
        line, line_above = rows.reshape(-1), above.reshape(-1)
        nearest = _paeth(line[:-pixel], line_above[pixel:], line_above[:-pixel])
        predicted = np.concatenate((line_above[:pixel], nearest)).reshape(rows.shape)
        predicted[:, :pixel] = above[:, :pixel]
        return predicted
    predicted = np.zeros_like(rows)
    if number == SUB:
        predicted[:, pixel:] = rows[:, :-pixel]
    return predicted


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Return the one of three neighbours that is nearest to left + above - corner.

    It is the lesser of left and above if the corner is no less than both, and the greater if it is no greater. Between
    them it is the corner, unless that is no more than half as far from one as from the other; then it is that one.
    In this form everything fits into bytes.
    """
    low, high = np.minimum(left, above), np.maximum(left, above)
    middle: Bytes = np.maximum(np.minimum(corner, high), low)  # several times as fast as np.clip
    up, down = high - middle, middle - low
    less = np.minimum(up, down)  # without it, one of the two differences below would be negative
    to_low, to_high = (up <= down - less).view(np.uint8), (down <= up - less).view(np.uint8)
    up *= to_high
    down *= to_low
    middle += up
    middle -= down
    return middle
