"""SRCNN: "Image Super-Resolution Using Deep Convolutional Networks", Dong, Loy, He and Tang, TPAMI 2016."""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn


class SRCNN(nn.Module):
    """SRCNN: three convolutions on an image that bicubic interpolation has enlarged. One network for every scale.

    Luma in 0..1, that is 16/255..235/255 (BT.601 studio range over 255), enlarged beforehand to the output's size by
    MATLAB's bicubic; not clipped. (N, 1, H, W) -> (N, 1, H, W). The image's edge is repeated in every layer, as in the
    authors' demo; they trained without padding.

    The paper's best network is 9-5-5, the default.
    """

    scale = 1
    """The input is enlarged already."""
    peak = 1.0
    smallest = 1

    def __init__(self, *, kernels: tuple[int, int, int] = (9, 5, 5), channels: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        wide, narrow = channels
        self.conv1 = _conv(1, wide, kernels[0])
        self.conv2 = _conv(wide, narrow, kernels[1])
        self.conv3 = _conv(narrow, 1, kernels[2])

    @classmethod
    def narrow(cls) -> Self:
        """Return 9-1-5, whose parameters later papers print beside the figures of 9-5-5."""
        return cls(kernels=(9, 1, 5))

    @property
    def receptive_radius(self) -> int:
        """Distance in pixels of the enlarged image beyond which one input pixel cannot change an output pixel."""
        return sum(conv.kernel_size[0] // 2 for conv in (self.conv1, self.conv2, self.conv3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W)."""
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))  # type: ignore[no-any-return]


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="replicate")
