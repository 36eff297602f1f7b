"""Distillation: what a trained network, the teacher, makes of the crops is part of the loss.

Two ways, after "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015) and "FitNets" (Romero et al.,
2015):

- the teacher's output takes the place of a share of the original, which holds detail that nobody could guess;
- for a teacher of the same widths, each part of the network learns what the teacher's part makes of the teacher's own
  features. The parts then learn side by side and much faster than the whole network does, but from random weights only:
  features of a network that has learned by itself have another meaning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

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
        if settings.blocks and replace(checkpoint.spec, block=student.block, upsampler=student.upsampler) != student:
            msg = f"{checkpoint.path} has other widths than the recipe's network"
            raise UsageError(msg, f"expected {student}, got {checkpoint.spec}; or leave blocks out of the recipe")
        self._settings = settings
        self._network = checkpoint.build().to(device)
        with torch.device("meta"):
            self._merge, self._parts = merger(student), _Parts(student.deployed)

    @torch.no_grad()
    def output(self, low: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W), RGB in 0..1, not clipped."""
        return self._network(low)  # type: ignore[no-any-return]

    def target(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the student's output is compared with besides the original, and by which share, (N, 1, 1, 1).

        The share is 0 for flat crops: of these the original is the only right answer, and teachers err at borders.
        """
        flat = high.amax(dim=(1, 2, 3), keepdim=True) - high.amin(dim=(1, 2, 3), keepdim=True) < FLAT
        return self.output(low), self._settings.output * (~flat).float()

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
