"""The door to training photographs: folders in, mapped pixels out."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_models.data.cache import LIMIT, Progress, build_pack, default_folder, find_pack, identify
from lkdn_models.data.crops import CropSettings
from lkdn_models.data.folders import Source, find_sources
from lkdn_models.data.pack import Entry, PackedPhotos
from lkdn_models.data.plan import make_plan


@dataclass(frozen=True, slots=True)
class Photos:
    """The photographs of a training run.

    Attributes:
        training: those to learn from.
        held_out: those to validate on, each at all its sizes.
    """

    training: PackedPhotos
    held_out: PackedPhotos

    @property
    def digest(self) -> str:
        """SHA-256 of what decides, with the settings, which crops are drawn: names and sizes of those to learn from.

        The same for a copied folder; pixels do not count.
        """
        facts = [
            (os.path.basename(entry.path), entry.full_width, entry.full_height, entry.width, entry.height, entry.factor)  # noqa: PTH119
            for entry in self.training.entries
        ]
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
    """All photographs of the folders (see ``find_sources``), decoded the first time, then found in the cache.

    Which are held out follows from the seed and each file's name: it is the same wherever the folders are, and hardly
    changes when photographs are added.

    Args:
        folders: plain folders of photographs, or trees of pairs.
        scale: HR pixels a LR pixel.
        settings: which sizes are used, how large a photograph must be, how many are held out.
        seed: of the choice of those held out.
        cache: folder for the decoded photographs; None: the user's cache.
        limit: bytes that the cache may take; what was used longest ago is deleted.
        progress: is told how many of how many photographs are decoded; not called if all are in the cache.

    Raises:
        InputError: if a folder or all its images cannot be read, an image is smaller than a crop, a pair does not fit,
            or the cache cannot be written or would be too large.
        UsageError: if nothing is left to train on, or pairs are to be shrunk.
    """
    sources = find_sources(folders, scale)
    _refuse_to_shrink_pairs(sources, settings)
    sides = settings.max_sides
    folder, wanted = cache or default_folder(), identify(folders, sources, scale, sides)
    pack = find_pack(folder, wanted, sources, scale)
    if pack is None:
        plan = make_plan(sources, scale, sides)
        if not plan.entries:
            msg = f"{', '.join(map(str, folders))} holds no readable image"
            raise InputError(msg, "give a folder of photographs")
        # Before an hour of decoding.
        _check(plan.entries, scale, settings)
        pack = build_pack(folder, wanted, plan, scale, sides, limit, progress)
    _check(pack.photos.entries, scale, settings)
    held_out = _held_out(pack.photos.entries, settings.held_out, seed)
    return Photos(
        pack.photos.filter(lambda entry: entry.path not in held_out),
        pack.photos.filter(lambda entry: entry.path in held_out),
    )


def _refuse_to_shrink_pairs(sources: Sequence[Source], settings: CropSettings) -> None:
    paired = next((source for source in sources if source.low), None)
    if settings.max_sides and paired:
        msg = f"max_sides is {list(settings.max_sides)}, but {paired.high} has its low-resolution image beside it"
        raise UsageError(msg, f"leave max_sides out, or give {paired.high.parent}: they are then made from it")


def _check(entries: Sequence[Entry], scale: int, settings: CropSettings) -> None:
    for entry in entries:
        if min(entry.width, entry.height) < settings.patch:
            need = scale * settings.patch
            shrunk = f" and shrunk by {entry.factor}" if entry.factor > 1 else ""
            msg = (
                f"{entry.path} is {entry.full_width}x{entry.full_height}{shrunk}: too small for a crop of {need}x{need}"
            )
            raise InputError(msg, "remove it, or lower patch or raise max_sides in the recipe")
    count = len({entry.path for entry in entries})
    if settings.held_out >= count:
        msg = f"held_out is {settings.held_out}, but there are {count} photographs: nothing is left to train on"
        raise UsageError(msg, "lower held_out in the recipe, or give more photographs")


def _held_out(entries: Sequence[Entry], count: int, seed: int) -> set[str]:
    """The paths of those held out: the first by a hash of seed and name."""

    def rank(path: str) -> tuple[bytes, str]:
        name = f"{seed}/{os.path.basename(path)}"  # noqa: PTH119
        return hashlib.sha256(os.fsencode(name)).digest(), path

    return set(sorted({entry.path for entry in entries}, key=rank)[:count])
