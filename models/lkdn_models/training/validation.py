"""Validation of a training run: quality on the validation sets, and sample pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.imaging.metrics import SSIM_WINDOW
from lkdn_models.data import Photo
from lkdn_models.training.evaluate import (
    LumaQuality,
    Pair,
    Upscale,
    ValidationSet,
    bicubic,
    in_torch,
    mean,
    measure,
    open_set,
)
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.samples import comparison

HELD_OUT = "held-out"
CENTRE = 128
"""Side in LR pixels of the centre of a held-out photograph that is measured: whole ones would take too long."""


class Validation:
    """The validation sets of a run: the given folders, or else the photographs held out from training.

    Raises:
        InputError: if a folder or picture cannot be read.
        UsageError: if two sets have the same name.
    """

    def __init__(self, run: RunFolder, scale: int, folders: Sequence[Path]) -> None:
        self._run = run
        self._scale = scale
        self._sets = [open_set(folder, scale) for folder in folders]
        names = [pictures.name for pictures in self._sets]
        if twice := {name for name in names if names.count(name) > 1}:
            msg = f"two validation sets are called {twice.pop()}"
            raise UsageError(msg, "rename one folder: sets are distinguished by their folders' names")
        self.best: dict[str, float] = {}
        """PSNR of the best weights so far, by the name of the first set: a run may be resumed with other sets."""

    def hold_out(self, photos: Sequence[Photo]) -> None:
        """Measure on held-out photographs, unless there are other sets.

        Raises:
            InputError: if a photograph is too small.
        """
        if photos and not self._sets:
            self._sets = [ValidationSet(HELD_OUT, [_centre(photo, self._scale) for photo in photos])]

    def bicubic(self) -> dict[str, dict[str, float | None]]:
        """Return the quality of bicubic enlargement on each set."""
        return self._table(bicubic(self._scale))

    def measure(self, step: int, network: nn.Module) -> bool:
        """Log the network's quality on each set and write sample pictures; return whether it is the best so far.

        Raises:
            InputError: if they cannot be written.
        """
        if not self._sets:
            return False
        upscale = in_torch(network)
        table = self._table(upscale)
        self._run.log(step, validation=table)
        for pictures in self._sets:
            name, low, high = pictures.pairs[0]
            file = f"{pictures.name[:40]}_{name[:40]}_{step:09d}.png"
            write_picture(self._run.samples / file, Picture(comparison(low, upscale(low), high)))
        first = self._sets[0].name
        reached, best = table[first]["psnr_y"], self.best.get(first)
        if reached is None or (best is not None and reached <= best):
            return False
        self.best = {first: reached}
        return True

    def _table(self, upscale: Upscale) -> dict[str, dict[str, float | None]]:
        return {pictures.name: _rounded(mean(measure(upscale, pictures))) for pictures in self._sets}


def _centre(photo: Photo, scale: int) -> Pair:
    height, width = photo.low.shape[:2]
    top, left = max(0, height - CENTRE) // 2, max(0, width - CENTRE) // 2
    need = SSIM_WINDOW + 2 * scale
    if scale * min(height, width) < need:
        msg = f"{photo.path} is {scale * width}x{scale * height}: too small to validate on, which takes {need}x{need}"
        raise InputError(msg, "remove it, raise max_sides in the recipe, or give --val")
    low = photo.low[top : top + CENTRE, left : left + CENTRE]
    high = photo.high[scale * top : scale * (top + CENTRE), scale * left : scale * (left + CENTRE)]
    return Path(photo.name).stem, low, high


def _rounded(quality: LumaQuality) -> dict[str, float | None]:
    """Return the figures for JSON, which has no infinity: a flat picture's PSNR becomes None."""
    return {
        "psnr_y": round(quality.psnr_y, 4) if math.isfinite(quality.psnr_y) else None,
        "ssim_y": round(quality.ssim_y, 5),
    }
