"""VAPSR: "Efficient Image Super-Resolution using Vast-Receptive-Field Attention", Zhou et al., ECCV-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import LargeKernelAttention, PixelNorm, SRNetwork, conv1x1, conv3x3, shuffled

ATTENTION_CHANNELS = 64


class VAB(nn.Module):
    """Vast-receptive-field attention block: widening, attention, narrowing, shortcut, and only then pixel norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj_1 = conv1x1(channels, ATTENTION_CHANNELS)
        self.atten_branch = LargeKernelAttention(ATTENTION_CHANNELS)
        self.proj_2 = conv1x1(ATTENTION_CHANNELS, channels)
        self.pixel_norm = PixelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pixel_norm(x + self.proj_2(self.atten_branch(F.gelu(self.proj_1(x)))))  # type: ignore[no-any-return]


class VAPSR(SRNetwork):
    """VAPSR, for RGB in 0..1; no mean is subtracted.

    ``blocks`` defaults to the paper's number for the scale: 21 at x4, else 20. ``groups`` is that of the convolution
    after the blocks.
    """

    def __init__(self, scale: int, *, channels: int = 48, blocks: int | None = None, groups: int = 1) -> None:
        super().__init__(scale)
        blocks = blocks or (21 if scale == 4 else 20)
        # A block has a 5x5 and a 5x5 of dilation 3; the first, the last and both up-sampling convolutions are 3x3.
        self.receptive_radius = (2 + 6) * blocks + 4
        self.conv_first = conv3x3(3, channels)
        self.body = nn.Sequential(*(VAB(channels) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        steps: list[nn.Module]
        if scale == 4:
            steps = [conv3x3(channels, 64), nn.PixelShuffle(2), nn.LeakyReLU(0.1), *shuffled(16, 2)]
        else:
            steps = [conv3x3(channels, 56), nn.LeakyReLU(0.1), *shuffled(56, scale)]
        self.upsampler = nn.Sequential(*steps)

    @classmethod
    def small(cls, scale: int = 4) -> Self:
        """Return VAPSR-S of the paper, published at x4 only."""
        return cls(scale, channels=32, blocks=11, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.conv_first(x)
        return self.upsampler(self.conv_body(self.body(shallow)) + shallow)  # type: ignore[no-any-return]
