"""Building blocks shared by the networks. All tensors are (N, C, H, W); every convolution keeps height and width.

Parameter names are those of the published checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BSConv(nn.Module):
    """Blueprint separable convolution (Haase and Amthor, CVPR 2020): 1x1 without bias, then depthwise 3x3."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dw = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return self.dw(self.pw(x))  # type: ignore[no-any-return]


class BSRB(BSConv):
    """BSConv with a shortcut around both convolutions (BSRN, Li et al., CVPR-W 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x) + x


class RBSB(BSConv):
    """Re-parameterised blueprint separable block (LKDN paper, eqs. 8 and 9).

    ``y = pw(x) + x``, then ``dw(y) + y + rep1x1(y)``. The paper prints the second step on x; the published
    weights are for y.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)
        self.rep1x1 = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = self.pw(x) + x
        return self.dw(y) + y + self.rep1x1(y)  # type: ignore[no-any-return]


class LargeKernelAttention(nn.Module):
    """Large kernel attention (Guo et al., 2022) in the small form of VAPSR and LKDN.

    1x1, depthwise 5x5, depthwise 5x5 with dilation 3, times the input: a 17x17 field for 50 weights a channel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.depthwise_dilated = nn.Conv2d(channels, channels, 5, padding=6, groups=channels, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * self.depthwise_dilated(self.depthwise(self.pointwise(x)))  # type: ignore[no-any-return]


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, with learned scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RepUpsampler(nn.Module):
    """Training form of LKDN-S's up-sampler: three parallel maps to ``3 * scale**2`` channels, then pixel shuffle.

    The third is a 1x1 to twice the width followed by an unpadded 3x3. Its inner map is bordered with the 1x1's
    own bias, which is what that 1x1 makes of a zero: so the three merge into one zero-padded 3x3 exactly, at the
    border too.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        out_channels = 3 * scale**2
        self.conv1 = nn.Conv2d(channels, out_channels, 1)
        self.conv3 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv1x1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv3x3 = nn.Conv2d(2 * channels, out_channels, 3)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 3, scale * H, scale * W)."""
        # A 1x1 of a zero-padded map is its bias on the border.
        inner = self.conv1x1(F.pad(x, (1, 1, 1, 1)))
        return self.shuffle(self.conv1(x) + self.conv3(x) + self.conv3x3(inner))  # type: ignore[no-any-return]


def replicate(x: Tensor, copies: int) -> Tensor:
    """(N, C, H, W) -> (N, copies * C, H, W): the input repeated along the channels."""
    return torch.cat([x] * copies, dim=1) if copies > 1 else x
