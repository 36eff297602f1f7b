"""The photographs of a training run: folders in, decoded photographs out."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.files.read import read_size
from lkdn_models.data.decoded import LIMIT, Photo, Progress, decode, default_folder, plan, warn_left_out
from lkdn_models.data.folders import Source, check_pair, find_sources
from lkdn_models.data.random_crops import CropSettings


@dataclass(frozen=True, slots=True)
class Photos:
    """The photographs of a training run.

    Attributes:
        training: photographs to learn from.
        held_out: photographs to validate on, each at all its sizes.
    """

    training: tuple[Photo, ...]
    held_out: tuple[Photo, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the names and sizes of the photographs to learn from, which with the settings decide the crops.

        It is the same for a copied folder; pixels do not count.
        """
        facts = [(photo.name, *photo.full_size, *photo.size, photo.factor) for photo in self.training]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def open_photos(
    folders: Sequence[str | os.PathLike[str]],
    scale: int,
    settings: CropSettings,
    seed: int,
    cache: Path | None = None,
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> Photos:
    """Return all photographs of the folders (see ``find_sources``), decoded the first time, then found in the cache.

    An image that cannot be read is named in a warning and left out. Which photographs are held out follows from the
    seed and each file's name: it is the same wherever the folders are, and hardly changes when photographs are added.

    Args:
        folders: plain folders of photographs, or trees of pairs.
        scale: HR pixels for each LR pixel.
        settings: which sizes are used, how large a photograph must be, how many are held out.
        seed: seed of the choice of those held out.
        cache: folder for the decoded photographs; None: the user's cache.
        limit: bytes that the cache may take; what was used longest ago is deleted.
        progress: called with the numbers of photographs decoded and to decode; not called if all are in the cache.

    Raises:
        InputError: if a folder or all its images cannot be read, an image is smaller than a crop, a pair does not fit,
            or the cache cannot be written or would be too large.
        UsageError: if nothing is left to train on, or pairs are to be shrunk.
    """
    sources = find_sources(folders, scale)
    _refuse_to_shrink_pairs(sources, settings)
    folder = cache or default_folder()
    plans: dict[Source, list[Photo]] = {}
    for source in sources:
        try:
            full, *low = (read_size(path) for path in source.files)
        except InputError as error:
            warn_left_out(error)
            continue
        if low:
            check_pair(source, full, low[0], scale)
        plans[source] = plan(source, full, scale, settings.max_sides, folder)
    _check(plans, scale, settings, len(sources))  # before an hour of decoding
    for source in decode(plans, folder, limit, progress):
        del plans[source]
    _check(plans, scale, settings, len(sources))
    held_out = _held_out([source.high for source in plans], settings.held_out, seed)
    photos = [photo for each in plans.values() for photo in each]
    return Photos(
        tuple(photo for photo in photos if photo.path not in held_out),
        tuple(photo for photo in photos if photo.path in held_out),
    )


def _refuse_to_shrink_pairs(sources: Sequence[Source], settings: CropSettings) -> None:
    paired = next((source for source in sources if source.low), None)
    if settings.max_sides and paired:
        msg = f"max_sides is {list(settings.max_sides)}, but {paired.high} has its low-resolution image beside it"
        raise UsageError(msg, f"leave max_sides out, or give {paired.high.parent}: they are then made from it")


def _check(plans: dict[Source, list[Photo]], scale: int, settings: CropSettings, found: int) -> None:
    """Refuse photographs that are too small or too few."""
    if not plans:
        msg = f"none of the {found} images can be read"
        raise InputError(msg, "give a folder of photographs")
    for photo in (photo for photos in plans.values() for photo in photos):
        if min(photo.size) < settings.patch:
            need = scale * settings.patch
            shrunk = f" and shrunk by {photo.factor}" if photo.factor > 1 else ""
            msg = (
                f"{photo.path} is {photo.full_size[0]}x{photo.full_size[1]}{shrunk}: "
                f"too small for a crop of {need}x{need}"
            )
            raise InputError(msg, "remove it, or lower patch or raise max_sides in the recipe")
    if settings.held_out >= len(plans):
        msg = f"held_out is {settings.held_out}, but there are {len(plans)} photographs: nothing is left to train on"
        raise UsageError(msg, "lower held_out in the recipe, or give more photographs")


def _held_out(paths: Sequence[Path], count: int, seed: int) -> set[Path]:
    """Return the first paths by a hash of seed and name."""

    def rank(path: Path) -> tuple[bytes, str]:
        return hashlib.sha256(os.fsencode(f"{seed}/{path.name}")).digest(), str(path)

    return set(sorted(paths, key=rank)[:count])
