"""What a training run measures of itself: quality on the validation sets, and sample pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from lkdn_deploy.core.errors import UsageError
from lkdn_models.data import Photo
from lkdn_models.evaluate import Pair, Quality, Upscale, ValidationSet, bicubic, in_torch, mean, measure, open_set
from lkdn_models.runs import RunFolder
from lkdn_models.samples import write_comparison

HELD_OUT = "held-out"
CENTRE = 128
"""Side in LR pixels of what is measured of a held-out photograph: whole ones would take longer than the training."""


class Validation:
    """The validation sets of a run: the folders given, or else the photographs held out from training."""

    def __init__(self, run: RunFolder, scale: int, folders: Sequence[Path], held_out: Sequence[Photo]) -> None:
        """Read the sets.

        Raises:
            InputError: as ``open_set`` does.
            UsageError: if two have the same name.
        """
        self._run = run
        self._scale = scale
        self.sets = [open_set(folder, scale) for folder in folders]
        if not folders and held_out:
            self.sets = [ValidationSet(HELD_OUT, [_centre(photo, scale) for photo in held_out])]
        names = [pictures.name for pictures in self.sets]
        if twice := {name for name in names if names.count(name) > 1}:
            msg = f"two validation sets are called {twice.pop()}"
            raise UsageError(msg, "they are told apart by their folders' names: rename one")
        self.best = -math.inf
        """PSNR of the best weights so far, on the first set."""

    def bicubic(self) -> dict[str, dict[str, float]]:
        """What bicubic enlargement reaches on each set."""
        return self._table(bicubic(self._scale))

    def measure(self, step: int, network: nn.Module) -> bool:
        """Log the network's quality on each set and write sample pictures; whether it is the best so far.

        Raises:
            InputError: if these cannot be written.
        """
        if not self.sets:
            return False
        upscale = in_torch(network)
        table = self._table(upscale)
        self._run.log(step, validation=table)
        for pictures in self.sets:
            name, low, high = pictures.pairs[0]
            write_comparison(self._run.samples / f"{pictures.name}_{name}_{step:08d}.png", low, upscale(low), high)
        reached = table[self.sets[0].name]["psnr_y"]
        best, self.best = self.best, max(self.best, reached)
        return reached > best

    def _table(self, upscale: Upscale) -> dict[str, dict[str, float]]:
        return {pictures.name: _rounded(mean(measure(upscale, pictures))) for pictures in self.sets}


def _centre(photo: Photo, scale: int) -> Pair:
    height, width = photo.low.shape[:2]
    top, left = max(0, height - CENTRE) // 2, max(0, width - CENTRE) // 2
    low = photo.low[top : top + CENTRE, left : left + CENTRE]
    high = photo.high[scale * top : scale * (top + CENTRE), scale * left : scale * (left + CENTRE)]
    return Path(photo.name).stem, low, high


def _rounded(quality: Quality) -> dict[str, float]:
    return {"psnr_y": round(quality.psnr_y, 4), "ssim_y": round(quality.ssim_y, 5)}
