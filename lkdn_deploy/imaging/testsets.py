"""Test sets on disk: pairs of an original and its low-resolution version, in the layouts that are in circulation."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.files.formats import BY_SUFFIX
from lkdn_deploy.imaging.files.read import image_files, read_rgb
from lkdn_deploy.imaging.metrics import SSIM_WINDOW
from lkdn_deploy.imaging.resample import downsample

LAYOUTS = (
    "SET/x4/HR and SET/x4/LR",
    "SET/GTmod12 (or GT, HR, original) and SET/LRbicx4 or SET/LR_bicubic/X4",
    "NAME_HR and NAME_LR_bicubic/X4",
    "a folder of originals, or one that holds such sets",
)
"""The layouts that ``find_sets`` recognises, at scale 4; low-resolution pictures may be absent in all of them."""

_BY_SCALE = re.compile(r"[xX](\d)")
_ORIGINALS = ("GT", "HR", "original")
_CROPPED = re.compile(r"GTmod(\d+)")
_LOW = re.compile(r"LR(bicx\d|_bicubic)?|.+_LR_(bicubic|unknown)")


@dataclass(frozen=True, slots=True)
class ImagePair:
    """A picture of a set: its original and its low-resolution version.

    Attributes:
        name: of the original's file without the suffix; with it, if two of the set would otherwise share the name.
        high: file of the original.
        low: file of the low-resolution version, which may be missing; None if it is to be made from ``high``.
    """

    name: str
    high: Path
    low: Path | None = None


@dataclass(frozen=True, slots=True)
class TestSet:
    """A set of pictures that are measured together, sorted by file name."""

    __test__ = False  # pytest collects classes of such a name

    name: str
    pictures: tuple[ImagePair, ...]


def find_all(folders: Sequence[Path], scale: int, make_lr: bool = False) -> list[TestSet]:
    """Find the sets of several folders, each once.

    Args:
        folders, scale, make_lr: see ``find_sets``.

    Raises:
        InputError: as ``find_sets`` does.
        UsageError: if two sets have the same name, as their results could not be told apart.
    """
    found = list(dict.fromkeys(one for folder in folders for one in find_sets(folder, scale, make_lr)))
    for name, count in Counter(one.name for one in found).items():
        if count > 1:
            where = ", ".join(str(one.pictures[0].high.parent) for one in found if one.name == name)
            msg = f"{count} test sets are called {name}: {where}"
            raise UsageError(msg, "rename one, or measure on one after the other")
    return found


def find_sets(folder: str | os.PathLike[str], scale: int, make_lr: bool = False) -> list[TestSet]:
    """Find the test set that ``folder`` is, or those in its sub-folders, by name, without opening a picture.

    ``LAYOUTS`` has the layouts. The low-resolution file of a picture ``a.png`` is named ``a`` or, at scale 4, ``ax4``,
    with any suffix. If a set has a folder of low-resolution pictures, each of its pictures must have one there;
    ``read_pair`` refuses those that do not. ``NAME_train_HR`` is a set only if it is ``folder`` itself.

    Args:
        folder: a set, a folder of sets, or a set's folder of originals.
        scale: 2, 3 or 4.
        make_lr: whether to ignore low-resolution files and make them from the originals.

    Raises:
        InputError: if the folder cannot be read, or holds no set of this scale.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  not resolved, so that a link keeps its own name
    try:
        children = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise InputError(msg, "give the folder of a test set") from error
    originals = _originals(folder, scale)
    if not originals:
        children = sorted((child for child in children if not _is_part(child)), key=_in_order)
        originals = [high for child in children for high in _originals(child, scale)]
    if not originals:
        msg = f"{folder} holds no test set for x{scale}"
        raise InputError(msg, f"known layouts: {'; '.join(LAYOUTS)}")
    return [_open(high, None if make_lr else _low_folder(high, scale), scale) for high in originals]


def read_pair(picture: ImagePair, scale: int, border: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the low-resolution version, (h, w, 3), and the original, (scale * h, scale * w, 3), both uint8 RGB.

    The original is cropped at the right and bottom to a multiple of ``scale``. If ``picture.low`` is None,
    ``downsample`` makes the low-resolution version from it.

    Args:
        picture: a picture of a set.
        scale: 2, 3 or 4.
        border: pixels that are cropped from each side when quality is measured; default: the scale.

    Raises:
        InputError: if a file is missing or cannot be read, if their sizes do not fit, or if the original is too small
            for SSIM's window.
        MissingError: for 16 bits per sample where imagecodecs is not installed.
    """
    image = read_rgb(picture.high)
    height, width = image.shape[:2]
    need = -(-(SSIM_WINDOW + 2 * (scale if border is None else border)) // scale) * scale  # and a multiple of the scale
    if min(height, width) < need:
        msg = f"{picture.high} is {width}x{height}: quality at x{scale} is measured on {need}x{need} or more"
        raise InputError(msg, "remove it from the set")
    # A copy, so that the cropped pixels are freed.
    high = np.ascontiguousarray(image[: height - height % scale, : width - width % scale])
    if picture.low is None:
        return downsample(high, scale), high
    if not picture.low.exists():
        msg = f"{picture.low} is missing: it is the x{scale} low-resolution version of {picture.high.name}"
        raise InputError(msg, "download it, or use --make-lr to make all of them from the originals")
    low = read_rgb(picture.low)
    expected = width // scale, height // scale
    if low.shape[1::-1] != expected:
        msg = (
            f"{picture.low} is {low.shape[1]}x{low.shape[0]}: expected {expected[0]}x{expected[1]}, "
            f"since {picture.high} is {width}x{height}"
        )
        raise InputError(msg, "download both again, or use --make-lr to make it from the original")
    return low, high


def _originals(folder: Path, scale: int) -> list[Path]:
    """Return the folders of originals of the set, or sets, that ``folder`` is."""
    if _is_low(folder) or (_BY_SCALE.fullmatch(folder.name) and _is_low(folder.parent)):
        return []
    # x2/HR, for example, is cropped for x2 and is no set for another scale.
    by_scale = folder.parent if folder.name in _ORIGINALS else folder
    if (match := _BY_SCALE.fullmatch(by_scale.name)) and int(match[1]) != scale:
        return []
    cropped = {
        int(match[1]): path
        for path in folder.glob("GTmod*")
        if (match := _CROPPED.fullmatch(path.name)) and path.is_dir()
    }
    fitting = [cropped[multiple] for multiple in sorted(cropped, reverse=True) if multiple % scale == 0]
    for high in (folder / f"x{scale}" / "HR", *fitting, *(folder / name for name in _ORIGINALS)):
        if _holds_pictures(high):
            return [high]
    trees = [path for path in sorted(folder.glob("*_HR")) if not path.name.endswith("_train_HR")]
    return [path for path in trees if _holds_pictures(path)] or ([folder] if _holds_pictures(folder) else [])


def _in_order(path: Path) -> list[str | int]:
    """Return a sort key that compares numbers by value, so that Set5 comes before Set14."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _is_part(folder: Path) -> bool:
    """Tell whether a sub-folder is part of a set rather than a set of its own."""
    name = folder.name
    named = name in _ORIGINALS or name.endswith("_HR")
    return named or _is_low(folder) or bool(_BY_SCALE.fullmatch(name) or _CROPPED.fullmatch(name))


def _is_low(folder: Path) -> bool:
    return _LOW.fullmatch(folder.name) is not None


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in BY_SUFFIX for path in folder.glob("*"))


def _low_folder(high: Path, scale: int) -> Path | None:
    """Return the folder of low-resolution pictures beside a folder of originals."""
    near, number = high.parent, f"X{scale}"
    if high.name.endswith("_HR"):
        low = near / f"{high.name.removesuffix('_HR')}_LR_bicubic" / number
        return low if low.is_dir() else None
    if high.name not in _ORIGINALS and not _CROPPED.fullmatch(high.name):
        return None
    for low in (near / f"LRbicx{scale}", near / "LR_bicubic" / number, near / "LR" / number):
        if low.is_dir():
            return low
    return near / "LR" if _holds_pictures(near / "LR") else None


def _open(high: Path, low: Path | None, scale: int) -> TestSet:
    files = image_files(high)
    stems = [path.stem for path in files]
    lows = {} if low is None else {path.stem: path for path in low.glob("*") if path.suffix.lower() in BY_SUFFIX}
    # A missing file is reported under a name like those of the others.
    ending = f"x{scale}" if any(stem.endswith(f"x{scale}") and stem not in stems for stem in lows) else ""
    pictures = []
    for path in files:
        name = printable(path.stem if stems.count(path.stem) == 1 else path.name)
        partner = None
        if low is not None:
            partner = (
                lows.get(path.stem) or lows.get(f"{path.stem}x{scale}") or low / f"{path.stem}{ending}{path.suffix}"
            )
        pictures.append(ImagePair(name, path, partner))
    return TestSet(printable(_name(high)), tuple(pictures))


def _name(high: Path) -> str:
    """Return the name of the set whose originals are in ``high``."""
    if high.name in _ORIGINALS or _CROPPED.fullmatch(high.name):
        high = high.parent
        if _BY_SCALE.fullmatch(high.name):
            high = high.parent
    return high.name.removesuffix("_HR") or high.name or "pictures"
