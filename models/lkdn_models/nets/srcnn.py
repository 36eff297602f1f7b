"""SRCNN: "Image Super-Resolution Using Deep Convolutional Networks", Dong, Loy, He and Tang, TPAMI 2016."""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork


class SRCNN(SRNetwork):
    """SRCNN: three convolutions on luma that bicubic interpolation has enlarged. One network for every scale.

    The image's edge is repeated in every layer, as in the authors' demo; they trained without padding. The paper's best
    network is 9-5-5, the default.
    """

    def __init__(self, *, kernels: tuple[int, int, int] = (9, 5, 5), channels: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        self.receptive_radius = sum(kernel // 2 for kernel in kernels)
        wide, narrow = channels
        self.conv1 = _conv(1, wide, kernels[0])
        self.conv2 = _conv(wide, narrow, kernels[1])
        self.conv3 = _conv(narrow, 1, kernels[2])

    @classmethod
    def narrow(cls) -> Self:
        """Return 9-1-5, whose parameters later papers print beside the figures of 9-5-5."""
        return cls(kernels=(9, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))  # type: ignore[no-any-return]


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="replicate")
