"""Folders of image files, and each file as 8-bit RGB: what networks are trained and measured on."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.picture import to_eight_bits
from lkdn_deploy.imaging.files.read import probe, read_picture

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

Size = tuple[int, int]
"""Width and height in pixels."""


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
