"""A folder of photographs -> random pairs of aligned low- and high-resolution crops.

Low-resolution images are made once from whole photographs with the MATLAB-exact bicubic, as the test sets are, so
that a crop's border pixels know the same neighbourhood there and here. All pixels are kept in memory as uint8.

Batch number i is a pure function of the seed and i: a run that is resumed draws what it would have drawn.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.metrics import luma
from lkdn_deploy.imaging.resample import downsample, imresize

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        patch: side of an LR crop in pixels; the HR crop is ``scale`` times that.
        batch: crops in a batch.
        max_side: photographs whose longer side is above this many pixels are first shrunk by the smallest integer
            factor that brings it there. Large photographs are soft or noisy at full size, and a crop of one shows
            next to nothing. 0 leaves all as they are.
        candidates: positions drawn for each crop, of which the one with most detail is taken. 1 is uniform.

    Raises:
        UsageError: if a value is out of range, naming it.
    """

    patch: int
    batch: int
    max_side: int = 0
    candidates: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("patch", 8, 1024),
            ("batch", 1, 4096),
            ("max_side", 0, 1 << 16),
            ("candidates", 1, 64),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"{name} must be between {low} and {high}, got {value}"
                raise UsageError(msg)


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph at both resolutions.

    Attributes:
        low: (h, w, 3) uint8.
        high: (scale * h, scale * w, 3) uint8.
        detail: (h + 1, w + 1) float64, summed-area table of the mean absolute luma gradient under each LR pixel.
    """

    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    detail: NDArray[np.float64]


class CropSource:
    """The photographs of a training run, and the batches drawn from them."""

    def __init__(self, photos: Sequence[Photo], scale: int, settings: CropSettings, seed: int) -> None:
        self._photos = photos
        self._scale = scale
        self._settings = settings
        self._seed = seed
        # Every crop position of every photograph is equally likely.
        patch = settings.patch
        self._ends = np.cumsum(
            [(p.low.shape[0] - patch + 1) * (p.low.shape[1] - patch + 1) for p in photos], dtype=np.int64
        )

    def batch(self, index: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor]:
        """Batch number ``index``: RGB in 0..1, float32, (N, 3, patch, patch) and (N, 3, scale * patch, ...).

        Of a batch that is shared by several processes, ``part`` gives every ``parts``-th crop.
        """
        # A stream for each crop, so that a part is drawn without the others.
        crops = [
            self._crop(np.random.default_rng([self._seed, index, number]))
            for number in range(part, self._settings.batch, parts)
        ]
        low, high = (np.stack(images) for images in zip(*crops, strict=True))
        return _to_tensor(low), _to_tensor(high)

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One pair of (patch, patch, 3) and (scale * patch, scale * patch, 3), turned and mirrored at random."""
        drawn = rng.integers(self._ends[-1], size=self._settings.candidates)
        photo, top, left = max((self._place(int(at)) for at in drawn), key=self._detail)
        mirror, turns = bool(rng.integers(2)), int(rng.integers(4))
        pair = []
        for image, unit in ((photo.low, 1), (photo.high, self._scale)):
            side = unit * self._settings.patch
            crop = image[unit * top : unit * top + side, unit * left : unit * left + side]
            pair.append(np.rot90(crop[:, ::-1] if mirror else crop, turns))
        return pair[0], pair[1]

    def _place(self, at: int) -> tuple[Photo, int, int]:
        """The photograph, top and left of crop position number ``at``."""
        which = int(np.searchsorted(self._ends, at, side="right"))
        photo = self._photos[which]
        if which:
            at -= int(self._ends[which - 1])
        top, left = divmod(at, photo.low.shape[1] - self._settings.patch + 1)
        return photo, top, left

    def _detail(self, place: tuple[Photo, int, int]) -> float:
        photo, top, left = place
        table, bottom, right = photo.detail, top + self._settings.patch, left + self._settings.patch
        return float(table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left])


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
    """An image as (H, W, 3) uint8 RGB.

    Raises:
        InputError: if it cannot be read, saying why.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        msg = f"{path} cannot be read as an image: {error}"
        raise InputError(msg) from error


def load_photos(folder: str | os.PathLike[str], scale: int, settings: CropSettings) -> list[Photo]:
    """Decode all images of a folder. One that cannot be read is named in a warning and left out.

    Raises:
        InputError: if the folder holds no readable image, or an image is smaller than a crop.
    """
    photos = []
    for path in image_files(folder):
        try:
            image = read_rgb(path)
        except InputError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        photo = _prepare(image, scale, settings.max_side)
        if min(photo.low.shape[:2]) < settings.patch:
            need = scale * settings.patch
            height, width = image.shape[:2]
            msg = f"{path} is {width}x{height}: too small for a crop of {need}x{need}"
            raise InputError(msg, "remove it, or lower patch or raise max_side in the recipe")
        photos.append(photo)
    if not photos:
        msg = f"{folder} holds no readable image"
        raise InputError(msg, "give a folder of photographs")
    return photos


def _prepare(image: NDArray[np.uint8], scale: int, max_side: int) -> Photo:
    if max_side and max(image.shape[:2]) > max_side:
        image = imresize(image, Fraction(1, -(-max(image.shape[:2]) // max_side)))  # type: ignore[assignment]
    low = downsample(image, scale)
    height, width = low.shape[:2]
    high = np.ascontiguousarray(image[: scale * height, : scale * width])
    return Photo(low, high, _detail_table(high, scale))


def _detail_table(high: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
    """Summed-area table as in `Photo.detail`."""
    light = luma(high)
    slope = np.abs(np.diff(light, axis=0, append=light[-1:])) + np.abs(np.diff(light, axis=1, append=light[:, -1:]))
    height, width = high.shape[0] // scale, high.shape[1] // scale
    cells = slope.reshape(height, scale, width, scale).mean(axis=(1, 3))
    table = np.zeros((height + 1, width + 1))
    table[1:, 1:] = cells.cumsum(axis=0).cumsum(axis=1)
    return table


def _to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) in 0..1, channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
