"""Reading image files: as pictures, with all that is in them, or as plain 8-bit RGB."""

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import open_regular
from lkdn_deploy.imaging.bands import RowSource
from lkdn_deploy.imaging.files.formats import FORMATS, READABLE, SIGNATURE_SIZE, format_of
from lkdn_deploy.imaging.files.picture import MAX_PIXELS, Description, Header, OpenedImage, Picture, to_eight_bits
from lkdn_deploy.imaging.pixels import Pixels

StrPath: TypeAlias = str | os.PathLike[str]

Size = tuple[int, int]
"""Width and height in pixels."""


def probe(path: StrPath) -> Header:
    """Read the header only: the facts of what ``read_picture`` would give, or the error it would begin with.

    Files of more than ``MAX_PIXELS`` pixels are let through if they can be read in parts.

    Raises:
        InputError: for a missing or empty file, a folder, a file that is no image of a known format, more than
            ``MAX_PIXELS`` pixels, animations and several pages, floats and 32-bit integers.
    """
    with _opened(path) as image:
        return image.header


def read_picture(path: StrPath) -> Picture:
    """Read an image file: PNG, JPEG, WebP, TIFF, BMP, AVIF, JPEG XL, HEIC, or a still GIF.

    8 or 16 bits per sample, as in the file's header; grey or RGB, with straight alpha where the file has any
    transparency; upright.

    Raises:
        InputError: for all that ``probe`` refuses, and for files that are cut off or damaged.
        MissingError: for 16 bits per sample, AVIF and JPEG XL where imagecodecs is not installed, and for HEIC where
            pi-heif is not.
    """
    with _opened(path) as image:
        return decoded(image)


@contextmanager
def open_in_memory(content: bytes, name: str) -> Iterator[OpenedImage]:
    """Open an image file whose content is in memory; ``decoded`` gives its picture while it is open.

    Args:
        content: the bytes of the file.
        name: what messages call it.

    Raises:
        InputError: for all that ``probe`` refuses; caused by ``UnidentifiedImageError`` if it is of no known format.
            Whatever goes wrong until it is closed becomes one, too.
    """
    with _named(name):
        yield _open(io.BytesIO(content), name)


def decoded(image: OpenedImage) -> Picture:
    """Decode an image file that is open.

    Raises:
        InputError: if its pixels are not those that its header promises.
        Exception: whatever a decoder raises for a damaged file; what opened the file turns that into an InputError.
    """
    picture, header = image.decode(), image.header
    if Header(picture.width, picture.height, picture.channels, picture.depth) != header:
        msg = f"its header says {header.width}×{header.height}, its pixels are {picture.width}×{picture.height}"
        raise InputError(msg, "the file may be damaged")
    return picture


def memory_in_parts(path: StrPath) -> int | None:
    """Return the bytes that ``open_rows`` takes beside the rows that are asked for; None if the file is not for it.

    Raises:
        InputError: as ``probe`` does.
    """
    with _opened(path) as image:
        return image.parts and image.parts.memory


@contextmanager
def open_rows(path: StrPath) -> Iterator[tuple[Description, RowSource]]:
    """Open an image file to be read in parts: TIFF files in strips or tiles, upright, of grey or RGB.

    The picture is that of ``read_picture``.

    Raises:
        InputError: for all that ``probe`` refuses, and for other files; as the rows are read, for damaged ones.
    """
    with ExitStack() as stack:
        with _named(path):
            image = _open(stack.enter_context(open_regular(path)), path)
            if image.parts is None:
                msg = f"{path} cannot be read in parts"
                raise InputError(msg, "save it as a TIFF file of many strips or tiles")
            description, rows = image.parts.open()
        yield description, _NamedRows(path, rows)


class _NamedRows:
    """Rows of a file, whose errors name it."""

    def __init__(self, path: StrPath, rows: RowSource) -> None:
        self._path, self._rows = path, rows
        self.shape, self.dtype = rows.shape, rows.dtype

    def read(self, top: int, bottom: int) -> Pixels:
        """Read rows as ``RowSource.read`` does."""
        with _named(self._path):
            return self._rows.read(top, bottom)


def image_files(folder: StrPath) -> list[Path]:
    """List the images of a folder by name: the files with the suffix of a format that can be read, but for hidden ones.

    Raises:
        InputError: if the folder cannot be read or holds no image.
    """
    folder = Path(folder)
    hint = "give a folder of photographs: " + ", ".join(sorted(READABLE))
    try:
        # Hidden files are no input: among them are the temporary files of a program that was killed.
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        files = [path for path in visible if path.suffix.lower() in READABLE and not path.is_dir()]
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise InputError(msg, hint) from error
    if not files:
        msg = f"{folder} holds no image" + (f" among its {len(visible)} entries" if visible else "")
        raise InputError(msg, hint)
    return files


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, upright.

    16 bits per sample are rounded to 8, grey is repeated, and colours under transparency are taken as they are.

    Raises:
        InputError, MissingError: as ``read_picture`` does.
    """
    pixels = read_picture(path).pixels
    colours = to_eight_bits(pixels[..., : 3 if pixels.shape[2] > 2 else 1])
    return np.ascontiguousarray(colours) if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2)


def read_size(path: Path) -> Size:
    """Read the width and height of an image from its header alone.

    Raises:
        InputError: as ``probe`` does.
    """
    header = probe(path)
    return header.width, header.height


@contextmanager
def _opened(path: StrPath) -> Iterator[OpenedImage]:
    """Open an image file; whatever goes wrong until it is closed becomes an InputError that names it."""
    with _named(path):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises an error for names that are too long
            msg = f"{path} is a folder; expected an image file"
            raise InputError(msg)
        with open_regular(path) as file:
            yield _open(file, path)


def _open(file: IO[bytes], path: StrPath) -> OpenedImage:
    start = file.read(SIGNATURE_SIZE)
    if not start:
        msg = f"{path} is empty"
        raise InputError(msg)
    file.seek(0)
    kind = format_of(start)
    if kind is None:
        raise UnidentifiedImageError
    return kind.open(file)


@contextmanager
def _named(path: StrPath) -> Iterator[None]:
    """Turn whatever goes wrong into an InputError that names the file."""
    path = Path(path)
    try:
        yield
    except LkdnError as error:
        if str(path) in error.message:
            raise
        msg = f"{path}: {error.message}"
        raise type(error)(msg, error.hint) from error
    except FileNotFoundError as error:
        msg = f"{path} does not exist"
        raise InputError(msg) from error
    except Image.DecompressionBombError as error:
        msg = f"{path} has, by its header, far more than the {MAX_PIXELS:,} pixels that are read"
        raise InputError(msg, "crop it or cut it into parts first") from error
    except UnidentifiedImageError as error:
        msg = f"{path} is not an image that can be read, or its header is damaged"
        names = ", ".join(kind.name for kind in FORMATS if kind.name != "HEIC")
        raise InputError(msg, f"{names} files can be read, and HEIC files with the extra heic") from error
    except MemoryError as error:
        msg = f"{path} does not fit into memory"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise InputError(msg, _hint(error)) from error
    except Exception as error:  # damaged input: decoders raise whatever they trip over
        msg = f"{path} cannot be read: {str(error).strip() or type(error).__name__}"
        raise InputError(msg, _hint(error)) from error


def _hint(error: Exception) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        return None  # the system says what is wrong with it
    unknown = "unsupported" in str(error).lower()
    return "convert it to PNG or TIFF first" if unknown else "the file may be cut off or damaged"
