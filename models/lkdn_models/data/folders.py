"""Find training photographs in plain folders, and in trees of pairs laid out as DIV2K and Flickr2K are published."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.formats import BY_SUFFIX
from lkdn_deploy.imaging.files.read import Size, image_files

NOT_FOR_TRAINING = ("_valid_HR", "_test_HR")
"""Endings of the names of folders in a tree that are not taken."""


@dataclass(frozen=True, slots=True)
class Source:
    """A photograph on disk.

    Attributes:
        high: its file.
        low: the file of its low-resolution version; None: it is made from ``high``.
    """

    high: Path
    low: Path | None = None

    @property
    def file(self) -> str:
        """Path of ``high`` with links resolved."""
        return os.path.realpath(self.high)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the pixels come from."""
        return (self.high,) if self.low is None else (self.high, self.low)


def find_sources(folders: Sequence[str | os.PathLike[str]], scale: int) -> list[Source]:
    """Return the photographs of several folders, each file once, sorted by file name.

    A folder that holds ``NAME_HR`` folders, or folders that hold such (the root of DIV2K, of Flickr2K, or of both), is
    a tree: ``NAME_HR/0001.png`` goes with ``NAME_LR_bicubic/X4/0001x4.png`` at scale 4. Its validation and test images
    are not taken. Any other folder is plain, a ``NAME_HR`` folder itself too: its images are the high-resolution ones.

    Raises:
        InputError: if a folder cannot be read or holds no image, or a folder of low-resolution images or a partner is
            missing in a tree.
    """
    found: dict[str, Source] = {}
    for name in folders:
        folder = Path(name).absolute()  # not resolved, so that a link keeps its own name and partner
        trees = _trees(folder)
        sources = [pair for tree in trees for pair in _pairs(tree, scale)] or map(Source, image_files(folder))
        for source in sources:
            found.setdefault(source.file, source)
    # By name first: the order then stays the same when folders are moved.
    return sorted(found.values(), key=lambda source: (source.high.name, str(source.high)))


def check_pair(source: Source, high: Size, low: Size, scale: int) -> None:
    """Refuse a low-resolution image whose size is not that of its partner divided by ``scale``.

    Args:
        source: the pair of files.
        high: width and height of the high-resolution image.
        low: width and height of the low-resolution image.
        scale: HR pixels for each LR pixel.

    Raises:
        InputError: if the sizes do not fit; it names the expected size.
    """
    expected = high[0] // scale, high[1] // scale
    if low != expected:
        msg = (
            f"{source.low} is {low[0]}x{low[1]}: expected {expected[0]}x{expected[1]}, "
            f"since {source.high.name} is {high[0]}x{high[1]}"
        )
        raise InputError(msg, "download both again, or remove both")


def _trees(folder: Path) -> list[Path]:
    """Return the ``NAME_HR`` folders of a tree; none if the folder is plain."""
    found = [
        path
        for pattern in ("*_HR", "*/*_HR")
        for path in sorted(folder.glob(pattern))
        if path.is_dir() and not path.name.endswith(NOT_FOR_TRAINING)
    ]
    if any(_partner(path).is_dir() for path in found):
        return found
    # Without a single folder of low-resolution images, `NAME_HR` may be a name like any other.
    plain = any(path.suffix.lower() in BY_SUFFIX for path in folder.glob("*"))
    return [] if plain else found


def _partner(high: Path) -> Path:
    return high.with_name(high.name.removesuffix("_HR") + "_LR_bicubic")


def _pairs(folder: Path, scale: int) -> list[Source]:
    partner = _partner(folder) / f"X{scale}"
    otherwise = f"or give {folder} itself to have low-resolution images made from it"
    if not partner.is_dir():
        msg = f"{folder} has no low-resolution images for x{scale}: {partner} is missing"
        raise InputError(msg, f"download them, {otherwise}")
    lows = {path.stem: path for path in image_files(partner)}
    pairs, missing = [], []
    for high in image_files(folder):
        low = lows.pop(f"{high.stem}x{scale}", None)
        if low is None:
            missing.append(partner / f"{high.stem}x{scale}{high.suffix}")
        else:
            pairs.append(Source(high, low))
    missing += [folder / f"{low.stem.removesuffix(f'x{scale}')}{low.suffix}" for low in lows.values()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        msg = f"{missing[0]}{more} is missing, but its partner exists"
        raise InputError(msg, f"download it, {otherwise}")
    return pairs
