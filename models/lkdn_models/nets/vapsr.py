"""VAPSR: "Efficient Image Super-Resolution using Vast-Receptive-Field Attention", Zhou et al., ECCV-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import LargeKernelAttention, PixelNorm, conv1x1, conv3x3

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
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.pixel_norm(x + self.proj_2(self.atten_branch(F.gelu(self.proj_1(x)))))  # type: ignore[no-any-return]


class VAPSR(nn.Module):
    """RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped; no mean is subtracted.

    ``blocks`` defaults to the paper's number for the scale: 21 at x4, else 20. ``groups`` is that of the convolution
    after the blocks.
    """

    peak = 1.0
    """The top of the range of values."""
    smallest = 1
    """The least height and width that it takes."""

    def __init__(self, scale: int, *, channels: int = 48, blocks: int | None = None, groups: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = conv3x3(3, channels)
        self.body = nn.Sequential(*(VAB(channels) for _ in range(blocks or (21 if scale == 4 else 20))))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.upsampler = _in_two_steps(channels) if scale == 4 else _in_one_step(channels, scale)

    @classmethod
    def small(cls, scale: int = 4) -> Self:
        """Return VAPSR-S of the paper, published at x4 only."""
        return cls(scale, channels=32, blocks=11, groups=2)

    @property
    def receptive_radius(self) -> int:
        """Distance in LR pixels beyond which an input pixel cannot change an output pixel.

        A block adds 2 (5x5) and 6 (5x5, dilation 3); the first, the last and both up-sampling convolutions add 1 each.
        """
        return 8 * len(self.body) + 4

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.conv_first(x)
        return self.upsampler(self.conv_body(self.body(shallow)) + shallow)  # type: ignore[no-any-return]


def _in_two_steps(channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(channels, 64), nn.PixelShuffle(2), nn.LeakyReLU(0.1), conv3x3(16, 12), nn.PixelShuffle(2)
    )


def _in_one_step(channels: int, scale: int) -> nn.Sequential:
    return nn.Sequential(conv3x3(channels, 56), nn.LeakyReLU(0.1), conv3x3(56, 3 * scale**2), nn.PixelShuffle(scale))
