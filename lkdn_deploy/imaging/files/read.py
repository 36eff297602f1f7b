"""Image files to pictures."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lkdn_deploy.core.errors import InputError, LkdnError, MissingError
from lkdn_deploy.imaging.files.exif import orientation_of
from lkdn_deploy.imaging.files.picture import MAX_PIXELS, Header, Picture, check_size, make_upright, to_eight_bits
from lkdn_deploy.imaging.files.pillow import channels_of, from_pil, quiet
from lkdn_deploy.imaging.files.png import decode_deep_png, decode_png, png_depth, png_exif

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.tiff import TiffHeader

# Only formats whose every sample Pillow or imagecodecs gives; others would lose bits unseen, or run programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

Size = tuple[int, int]
"""Width and height in pixels."""
StrPath: TypeAlias = str | os.PathLike[str]


def probe(path: StrPath) -> Header:
    """Read the header only: what ``read_picture`` would give, or the refusal it would begin with.

    Raises:
        InputError: for a missing or empty file, a folder, what is no image of a known format, more than
            ``MAX_PIXELS`` pixels, animations and several pages, floats and 32-bit integers.
    """
    with _reading(path) as file:
        tiff = _open_tiff(file, path)
        if tiff is not None and tiff.is_deep:
            return _upright_header(
                tiff.width, tiff.height, tiff.colours + bool(tiff.alpha), 16, "TIFF", tiff.orientation
            )
        with quiet():
            image = _open(file, path)
            depth = 16 if png_depth(_start(file)) == 16 or image.mode.startswith("I;16") else 8
            name = "JPEG" if image.format == "MPO" else str(image.format)
            channels = _channels(image, depth)
            if tiff is not None:
                return _upright_header(tiff.width, tiff.height, channels, depth, name, tiff.orientation)
            return _upright_header(image.width, image.height, channels, depth, name, orientation_of(image))


def read_picture(path: StrPath) -> Picture:
    """Read an image file: PNG, JPEG, WebP, TIFF, BMP, or a still GIF.

    8 or 16 bits a sample, as the file's header says; grey or RGB, with straight alpha where the file has any
    transparency; upright.

    Raises:
        InputError: for all that ``probe`` refuses, and for files that are cut off or damaged.
        MissingError: for 16 bits a sample where imagecodecs is not installed.
    """
    with _reading(path) as file:
        tiff = _open_tiff(file, path)
        if tiff is not None and tiff.is_deep:
            from lkdn_deploy.imaging.files.tiff import decode_deep_tiff

            file.seek(0)
            return decode_deep_tiff(file.read(), tiff)
        with quiet():
            image = _open(file, path)
            depth = png_depth(_start(file))
        if depth == 16 or (depth == 8 and _is_plain(image)):
            return _read_png(image, file, depth)
        key = image.info.get("transparency")
        if depth in (1, 2, 4) and image.mode in ("1", "L") and isinstance(key, int):
            # Pillow widens the samples to 8 bits but not always the colour key.
            image.info["transparency"] = 255 * bool(key) if depth == 1 else key * 255 // (2**depth - 1)
        return _corrected(from_pil(image), image, tiff)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The images of a folder, by name.

    Raises:
        InputError: if the folder cannot be read or holds no image.
    """
    folder = Path(folder)
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise InputError(msg, "give a folder of photographs") from error
    if not files:
        msg = f"{folder} holds no image"
        raise InputError(msg, "give a folder of photographs: " + ", ".join(sorted(SUFFIXES)))
    return files


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB, upright.

    16 bits a sample are rounded to 8, grey is repeated, and of a transparent image the colours are taken as they are
    under its alpha.

    Raises:
        InputError: if it cannot be read, saying why; floats, 32-bit integers, animations and several pages are not.
        MissingError: for 16 bits a sample where imagecodecs is not installed.
    """
    pixels = read_picture(path).pixels
    colours = to_eight_bits(pixels[..., : 3 if pixels.shape[2] > 2 else 1])
    return np.ascontiguousarray(colours) if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2)


def read_size(path: Path) -> Size:
    """Width and height that ``read_rgb`` gives an image, from its header alone.

    Raises:
        InputError: if it cannot be read, saying why.
    """
    header = probe(path)
    return header.width, header.height


def _is_plain(image: Image.Image) -> bool:
    """Whether a PNG's samples are those of the picture, and of kinds that the faster decoder has."""
    return image.mode in ("L", "RGB", "RGBA") and "transparency" not in image.info


def _read_png(image: Image.Image, file: IO[bytes], depth: int) -> Picture:
    with quiet():
        orientation = orientation_of(image)
        channels = _channels(image, depth)
        # Its metadata by way of an empty image: of deep ones, Pillow's own pixels have lost their lower bits.
        stand_in = Image.new("L" if channels < 3 else "RGB", (1, 1))
        stand_in.info = {key: value for key, value in image.info.items() if key != "transparency"}
    file.seek(0)
    decode = decode_png if depth == 8 else decode_deep_png
    try:
        pixels = decode(file.read(), image.height, image.width, channels)
    except (RuntimeError, MissingError):
        if depth == 16:
            raise
        return from_pil(image)  # which reads some files that are slightly damaged, and says what is wrong with others
    return from_pil(stand_in).with_pixels(make_upright(pixels, orientation))


def _corrected(picture: Picture, image: Image.Image, tiff: "TiffHeader | None") -> Picture:
    """Tell what Pillow did to the samples without saying so, and undo what can be undone."""
    if image.format == "MPO":
        picture = picture.with_notes("the file holds several pictures (MPO); only the first was read")
    if tiff is None:
        return picture
    if tiff.bits == (12,):
        wide = picture.pixels << 4 | picture.pixels >> 8
        picture = picture.with_pixels(wide).with_notes("widened from 12 to 16 bits a sample")
    elif max(tiff.bits) > 8:
        picture = picture.with_notes(f"reduced from {max(tiff.bits)} to 8 bits a sample")
    if 0 in tiff.extra:
        count = tiff.extra.count(0)
        picture = picture.with_notes(f"{count} further channel(s), which are not alpha, were left out")
    return picture


def _channels(image: Image.Image, depth: int) -> int:
    # Pillow gives 16-bit grey+alpha PNGs as RGBA; the way it unpacks them tells.
    tiles = getattr(image, "tile", [])
    if depth == 16 and image.mode == "RGBA" and tiles and str(tiles[0][3]).startswith("LA"):
        return 2
    return channels_of(image)


def _upright_header(width: int, height: int, channels: int, depth: int, name: str, orientation: int) -> Header:
    if orientation >= 5:
        width, height = height, width
    return Header(width, height, channels, depth, name)


def _start(file: IO[bytes]) -> bytes:
    position = file.tell()
    file.seek(0)
    start = file.read(64)
    file.seek(position)
    return start


def _open_tiff(file: IO[bytes], path: StrPath) -> "TiffHeader | None":
    if file.read(4) not in _TIFF_MAGIC:
        file.seek(0)
        return None
    from lkdn_deploy.imaging.files.tiff import read_tiff_header  # which few pictures need, and takes 9 ms to import

    with quiet():
        tiff = read_tiff_header(file, str(path))
    if tiff.pages:
        _refuse_frames(path)
    file.seek(0)
    return tiff


def _open(file: IO[bytes], path: StrPath) -> Image.Image:
    """Open what is not a deep TIFF; the pixels are not decoded yet."""
    image = Image.open(file, formats=_FORMATS)
    check_size(image.width, image.height, str(path))
    # Phones put depth maps and the like behind the picture in such a file: the first is what viewers show.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        _refuse_frames(path)
    channels_of(image)
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        image.info["exif"] = png_exif(file)
    return image


def _refuse_frames(path: StrPath) -> None:
    msg = f"{path} is animated or has several pages; expected a single picture"
    raise InputError(msg, "save the frame or page you want as a file of its own")


@contextmanager
def _reading(path: StrPath) -> Iterator[IO[bytes]]:
    """The opened file; whatever goes wrong in reading it becomes an InputError that names it."""
    path = Path(path)
    try:
        if path.is_dir():
            msg = f"{path} is a folder; expected an image file"
            raise InputError(msg)
        with path.open("rb") as file:
            if file.seek(0, io.SEEK_END) == 0:
                msg = f"{path} is empty"
                raise InputError(msg)
            file.seek(0)
            yield file
    except LkdnError as error:
        if str(path) in error.message:
            raise
        msg = f"{path}: {error.message}"
        raise type(error)(msg, error.hint) from error
    except FileNotFoundError as error:
        msg = f"{path} does not exist"
        raise InputError(msg) from error
    except Image.DecompressionBombError as error:
        msg = f"{path} says it has far more than the {MAX_PIXELS:,} pixels that are read"
        raise InputError(msg, "crop it or cut it into parts first") from error
    except UnidentifiedImageError as error:
        msg = f"{path} is not an image that can be read, or its header is damaged"
        raise InputError(msg, "PNG, JPEG, WebP, TIFF, BMP and still GIF files can") from error
    except MemoryError as error:
        msg = f"{path} does not fit into memory"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise InputError(msg, "the file may be cut off or damaged") from error
    except Exception as error:  # damaged input: decoders raise whatever they trip over
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg, "the file may be cut off or damaged") from error
