"""Random pairs of aligned low- and high-resolution crops.

Batch number i is a pure function of the seed, the photographs and i: a resumed run draws the crops that it would have
drawn, and so do other processes that prepare batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lkdn_deploy.core.errors import UsageError
from lkdn_models.data.decoded import Photo
from lkdn_models.data.hard_places import HardPlaces


@dataclass(frozen=True, slots=True)
class CropSettings:
    """The choice of crops.

    Attributes:
        patch: side of an LR crop in pixels; the HR crop is ``scale`` times as large.
        batch: number of crops in a batch.
        max_sides: sizes at which each photograph is used: it is shrunk by the smallest whole factor that brings its
            longer side to at most so many pixels, and never enlarged; sizes of the same factor count once. Large
            photographs are soft or noisy at full size, and a crop of one shows next to nothing. Empty: full size.
        candidates: number of positions drawn for each crop, of which the one with most detail is taken.
        held_out: number of photographs that are not trained on, at any size, but validated on.
        graphics: share of each batch that is cut from drawings instead of photographs. Half of these crops are
            reduced by the means of blocks instead of bicubic, which leaves single pixels as people have them.
        hard: share of each batch that is cut from photographs where the first weights are furthest behind the teacher.

    Raises:
        UsageError: if a value is out of range.
    """

    patch: int
    batch: int
    max_sides: tuple[int, ...] = ()
    candidates: int = 1
    held_out: int = 0
    graphics: float = 0.0
    hard: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "patch": ((self.patch,), 8, 1024),
            "batch": ((self.batch,), 1, 4096),
            "max_sides": (self.max_sides, 8, 1 << 16),
            "candidates": ((self.candidates,), 1, 64),
            "held_out": ((self.held_out,), 0, 1 << 20),
        }
        for name, (values, low, high) in ranges.items():
            for value in values:
                if not low <= value <= high:
                    msg = f"{name} must be between {low} and {high}, got {value}"
                    raise UsageError(msg)
        for name, share in (("graphics", self.graphics), ("hard", self.hard)):
            if not 0 <= share < 1:
                msg = f"{name} must be a share from 0 to below 1, got {share}"
                raise UsageError(msg)
        if self.graphics + self.hard > 1:
            msg = f"graphics and hard must be at most 1 together, got {self.graphics} and {self.hard}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True)
class _Place:
    """A crop: its photograph, and its top left corner in LR pixels."""

    photo: Photo
    top: int
    left: int


class _Positions:
    """All crop positions in all photographs, each of them equally likely."""

    def __init__(self, photos: Sequence[Photo], patch: int) -> None:
        self._photos, self._patch = photos, patch
        self._ends = np.cumsum([(p.size[0] - patch + 1) * (p.size[1] - patch + 1) for p in photos], dtype=np.int64)

    @property
    def count(self) -> int:
        """The number of positions."""
        return int(self._ends[-1])

    def place(self, at: int) -> _Place:
        """Return position number ``at``."""
        which = int(np.searchsorted(self._ends, at, side="right"))
        photo = self._photos[which]
        if which:
            at -= int(self._ends[which - 1])
        top, left = divmod(at, photo.size[0] - self._patch + 1)
        return _Place(photo, top, left)


class CropSource:
    """Batches drawn from the photographs of a training run."""

    def __init__(
        self,
        photos: Sequence[Photo],
        scale: int,
        settings: CropSettings,
        seed: int,
        drawings: Sequence[Photo] = (),
        lags: Sequence[NDArray[np.float32]] = (),
    ) -> None:
        """Prepare to draw.

        Args:
            photos: photographs; each side of their low-resolution images has at least ``settings.patch`` pixels.
            scale: HR pixels for each LR pixel.
            settings: the choice of crops.
            seed: seed of the draws.
            drawings: pictures that ``settings.graphics`` of each batch is cut from, with sides as the photographs'.
            lags: for ``settings.hard``, the map of each photograph, as ``training.distillation.lag_map`` returns them.
        """
        self._scale = scale
        self._settings = settings
        self._seed = seed
        self._photos = _Positions(photos, settings.patch)
        self._drawings = _Positions(drawings, settings.patch)
        self._hard = HardPlaces(photos, lags, settings.patch) if settings.hard else None

    def batch(self, index: int, part: int = 0, parts: int = 1) -> tuple[Tensor, Tensor]:
        """Return batch number ``index``: RGB in 0..1, float32, (N, 3, patch, patch) and (N, 3, scale * patch, ...).

        Args:
            index: number of the batch.
            part: number of the process, where several share a batch; it gets every ``parts``-th crop.
            parts: number of processes.
        """
        low, high = zip(*(self._crop(index, number) for number in self._numbers(part, parts)), strict=True)
        return to_tensor(low), to_tensor(high)

    def nbytes(self, part: int = 0, parts: int = 1) -> int:
        """Return the bytes that ``batch`` takes in memory."""
        return len(self._numbers(part, parts)) * 3 * 4 * self._settings.patch**2 * (1 + self._scale**2)

    def names(self, index: int, part: int = 0, parts: int = 1) -> list[str]:
        """Return the origin of each crop of a batch: file, factor of shrinking, position in pixels of the HR image.

        Args:
            index: number of the batch.
            part, parts: of the crops of the batch, the share number ``part`` of ``parts``.
        """
        return [self._name(self._draw(index, number)[0]) for number in self._numbers(part, parts)]

    def _numbers(self, part: int, parts: int) -> range:
        return range(part, self._settings.batch, parts)

    def _draw(self, index: int, number: int) -> tuple[_Place, bool, int, bool]:
        """Return the place of crop ``number`` of batch ``index``, whether it is mirrored, its quarter turns, and
        whether it is reduced by block means.
        """
        # A stream for each crop, so that a part is drawn without the others.
        rng = np.random.default_rng([self._seed, index, number])
        # The first crops are of drawings, the last of hard places: of a batch of 8 shared by 2 processes, a quarter is
        # one crop for each.
        graphic = number < round(self._settings.graphics * self._settings.batch)
        if self._hard and number >= self._settings.batch - round(self._settings.hard * self._settings.batch):
            place = _Place(*self._hard.draw(rng))
            return place, bool(rng.integers(2)), int(rng.integers(4)), False
        positions = self._drawings if graphic else self._photos
        # Of drawings, empty places are wanted too: they show what becomes of flat colours at borders.
        drawn = rng.integers(positions.count, size=1 if graphic else self._settings.candidates)
        places = [positions.place(int(at)) for at in drawn]
        place = max(places, key=self._detail) if len(places) > 1 else places[0]
        return place, bool(rng.integers(2)), int(rng.integers(4)), graphic and bool(rng.integers(2))

    def _crop(self, index: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a pair of (patch, patch, 3) and (scale * patch, scale * patch, 3), turned and mirrored at random."""
        place, mirror, turns, by_means = self._draw(index, number)
        high = self._high(place)
        low = _block_means(high, self._scale) if by_means else self._low(place)
        low, high = (np.rot90(crop[:, ::-1] if mirror else crop, turns) for crop in (low, high))
        return low, high

    def _detail(self, place: _Place) -> int:
        """Return the sum of absolute differences of neighbouring pixels of the HR crop, in green: most of luma."""
        green = self._high(place)[..., 1].astype(np.int16)
        return sum(int(np.abs(np.diff(green, axis=axis)).sum()) for axis in (0, 1))

    def _low(self, place: _Place) -> NDArray[np.uint8]:
        return _square(place.photo.low, place.top, place.left, self._settings.patch)

    def _high(self, place: _Place) -> NDArray[np.uint8]:
        scale = self._scale
        return _square(place.photo.high, scale * place.top, scale * place.left, scale * self._settings.patch)

    def _name(self, place: _Place) -> str:
        photo = place.photo
        shrunk = f" shrunk by {photo.factor}" if photo.factor > 1 else ""
        return f"{photo.path}{shrunk} at {self._scale * place.left},{self._scale * place.top}"


def to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return N images (H, W, 3) uint8 as (N, 3, H, W) float32 in 0..1, channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)


def _block_means(high: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """(scale * h, scale * w, 3) -> (h, w, 3), rounded."""
    height, width, channels = high.shape
    blocks = high.reshape(height // scale, scale, width // scale, scale, channels)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)  # type: ignore[no-any-return]


def _square(image: NDArray[np.uint8], top: int, left: int, side: int) -> NDArray[np.uint8]:
    return image[top : top + side, left : left + side]
