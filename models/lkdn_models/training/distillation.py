"""Distillation: what a trained network, the teacher, makes of the crops is part of the loss.

Three ways, after "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015) and "FitNets" (Romero et al.,
2015):

- the teacher's output takes the place of a share of the original, which holds detail that nobody could guess;
- for a teacher of the same widths, each part of the network learns what the teacher's part makes of the teacher's own
  features. The parts then learn side by side and much faster than the whole network does, from random weights or from
  weights that began so: features of a network that has learned by itself have another meaning;
- after that, the network as a whole learns what each of its parts is to give, besides the output.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.data import Photo
from lkdn_models.data.hard_places import CELL, map_shape
from lkdn_models.data.random_crops import to_tensor
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.online import merger
from lkdn_models.training.recipe import Distillation
from lkdn_models.zoo import Input

FLAT = 0.02
"""Crops whose values differ by less are flat."""
WINDOW = 16 * CELL
"""Largest side of what the networks are run on at a time, in LR pixels, which bounds their memory."""

Network = Callable[[Tensor], Tensor]
"""RGB in 0..1, (1, 3, H, W) -> (1, 3, scale * H, scale * W)."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A teacher's results for a batch.

    Attributes:
        output: the enlarged crops, (N, 3, scale * H, scale * W), RGB in 0..1, not clipped.
        features: what `LKDN.features` gives, if the student learns from it; else empty.
        counts: 1 for crops that are learned from the teacher and 0 for flat ones, (N, 1, 1, 1): of these the original
            is the only right answer, and teachers err at borders.
    """

    output: Tensor
    features: Sequence[Tensor]
    counts: Tensor

    def feature_error(self, made: Sequence[Tensor]) -> Tensor:
        """Return the sum over the blocks of the squared error of their results, averaged over the crops.

        It is divided by the mean square of what the teacher's block adds to its input.

        Args:
            made: what the student's `features` gives for the same batch.
        """
        error = self.counts.new_zeros(len(self.counts))
        for before, wanted, mine in zip(self.features, self.features[1:], made[1:], strict=False):
            added = (wanted - before).square().mean(dim=(1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny)
            error = error + (mine - wanted).square().mean(dim=(1, 2, 3)) / added
        return (error * self.counts.flatten()).mean()


class Teacher:
    """A trained network whose results are part of the loss of another."""

    def __init__(self, checkpoint: Checkpoint, student: LkdnSpec, settings: Distillation, device: torch.device) -> None:
        """Build the teacher.

        Args:
            checkpoint: the teacher's weights, of any network of the zoo that takes RGB.
            student: the network that learns.
            settings: what it learns from the teacher.
            device: where both compute.

        Raises:
            UsageError: if the teacher does not fit the student.
        """
        if checkpoint.scale != student.scale or checkpoint.input is not Input.RGB:
            msg = f"{checkpoint.path} is {checkpoint.name} x{checkpoint.scale} for {checkpoint.input} input"
            raise UsageError(
                msg, f"the teacher of a x{student.scale} network takes RGB and enlarges by {student.scale}"
            )
        by_parts = settings.blocks or settings.features
        if by_parts and replace(checkpoint.spec, block=student.block, upsampler=student.upsampler) != student:
            msg = f"{checkpoint.path} has other widths than the recipe's network"
            raise UsageError(
                msg, f"expected {student}, got {checkpoint.spec}; or leave blocks and features out of the recipe"
            )
        self._settings = settings
        self._network = checkpoint.build().to(device)
        with torch.device("meta"):
            self._merge, self._parts = merger(student), _Parts(student.deployed)

    @torch.no_grad()
    def output(self, low: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W), RGB in 0..1, not clipped."""
        return self._network(low)  # type: ignore[no-any-return]

    @torch.no_grad()
    def lesson(self, low: Tensor, high: Tensor) -> Lesson:
        """Return the results for the crops of a batch, low and high resolution."""
        flat = high.amax(dim=(1, 2, 3), keepdim=True) - high.amin(dim=(1, 2, 3), keepdim=True) < FLAT
        if not self._settings.features:
            return Lesson(self.output(low), (), (~flat).float())
        features = self._network.features(low)  # type: ignore[operator]
        return Lesson(self._network.reconstruct(features), features, (~flat).float())  # type: ignore[operator]

    def block_loss(self, weights: Mapping[str, Tensor], low: Tensor) -> Tensor:
        """Return the sum over the student's parts of their errors, given the teacher's features.

        The squared error of a part is divided by the mean square of what the teacher's part adds to its input; the
        absolute error of the output counts ten times.
        """
        with torch.no_grad():
            features = self._network.features(low)  # type: ignore[operator]
            output = self._network.reconstruct(features)  # type: ignore[operator]
        given = {f"network.{name}": value for name, value in self._merge(weights).items()}
        made, upscaled = functional_call(self._parts, given, (low, features))
        loss = 10 * nn.functional.l1_loss(upscaled, output)
        for index, (mine, wanted) in enumerate(zip(made, features, strict=True)):
            added = wanted - features[index - 1] if index else wanted
            loss = loss + nn.functional.mse_loss(mine, wanted) / added.square().mean()
        return loss


class _Parts(nn.Module):
    """The parts of a network, each run on features that are given."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__()
        self.network = LKDN(spec)

    def forward(self, low: Tensor, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return what each part makes of the features before it, and the output made of all of them."""
        made = [self.network.shallow(low)]
        made += [block(x) for block, x in zip(self.network.blocks, features[:-1], strict=True)]
        return made, self.network.reconstruct(features)


@torch.no_grad()
def lag_map(photo: Photo, network: Network, teacher: Network, device: torch.device) -> NDArray[np.float32]:
    """Return by how much the squared error of ``network`` exceeds that of ``teacher``, (h // CELL, w // CELL).

    It is the mean over each cell, of RGB in 0..1, and 0 where the network is no worse. Pixels beyond the last whole
    cell are left out, and windows are run without what is around them, which both networks suffer from alike.

    Args:
        photo: photograph, with at least ``CELL`` pixels a side at low resolution.
        network: the network that learns.
        teacher: the network that it learns from.
        device: where both compute.
    """
    rows, columns = map_shape(photo)
    height, width = rows * CELL, columns * CELL
    low, high, scale = photo.low, photo.high, photo.scale
    lag = np.empty((rows, columns), np.float32)
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            bottom, right = min(top + WINDOW, height), min(left + WINDOW, width)
            given = to_tensor([low[top:bottom, left:right]]).to(device)
            wanted = to_tensor([high[scale * top : scale * bottom, scale * left : scale * right]]).to(device)
            behind = (network(given) - wanted).square() - (teacher(given) - wanted).square()
            cells = torch.nn.functional.avg_pool2d(behind.mean(1), scale * CELL)[0]
            lag[top // CELL : bottom // CELL, left // CELL : right // CELL] = cells.clamp(min=0).cpu().numpy()
    return lag
