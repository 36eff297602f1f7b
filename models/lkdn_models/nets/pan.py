"""PAN: "Efficient Image Super-Resolution Using Pixel Attention", Zhao et al., ECCV-W 2020.

Written from the paper, with the parameter names of the published checkpoints.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3, leaky

STAGES = {2: (2,), 3: (3,), 4: (2, 2)}
"""By scale, the factors by which it is enlarged one after the other."""

_SLOPE = 0.2
"""Negative slope of the leaky ReLU."""


class PixelAttention(nn.Module):
    """Pixel attention: a weight for each value of each channel, from a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x))


class PAConv(nn.Module):
    """A 3x3 convolution weighed by its input's pixel attention, then another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.k2 = conv1x1(channels, channels)
        self.k3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.k4 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.k4(self.k3(x) * torch.sigmoid(self.k2(x)))  # type: ignore[no-any-return]


class SCPA(nn.Module):
    """Self-calibrated block with pixel attention: two branches of half the channels, one of them weighed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1_a = nn.Conv2d(channels, half, 1, bias=False)
        self.conv1_b = nn.Conv2d(channels, half, 1, bias=False)
        self.k1 = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, bias=False))
        self.PAConv = PAConv(half)
        self.conv3 = nn.Conv2d(2 * half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        plain = leaky(self.k1(leaky(self.conv1_a(x), _SLOPE)), _SLOPE)
        weighed = leaky(self.PAConv(leaky(self.conv1_b(x), _SLOPE)), _SLOPE)
        return x + self.conv3(torch.cat([plain, weighed], dim=1))  # type: ignore[no-any-return]


class PAN(SRNetwork):
    """PAN, for RGB in 0..1; no mean is subtracted.

    Enlargement is by nearest neighbour, and the network's result is added to the input enlarged bilinearly.
    """

    def __init__(self, scale: int, *, channels: int = 40, enlarged_channels: int = 24, blocks: int = 16) -> None:
        super().__init__(scale, STAGES)
        # A block has two 3x3; the first and the trunk's convolution are 3x3. Of the enlarged pixels a stage's two see
        # 2, the last convolution 1: together less than 1 input pixel at x3, and less than 2 at x2 and x4.
        self.receptive_radius = 2 * blocks + 2 + (1 if scale == 3 else 2)
        self.conv_first = conv3x3(3, channels)
        self.SCPA_trunk = nn.Sequential(*(SCPA(channels) for _ in range(blocks)))
        self.trunk_conv = conv3x3(channels, channels)
        for stage, _ in enumerate(STAGES[scale], 1):
            self.add_module(f"upconv{stage}", conv3x3(channels if stage == 1 else enlarged_channels, enlarged_channels))
            self.add_module(f"att{stage}", PixelAttention(enlarged_channels))
            self.add_module(f"HRconv{stage}", conv3x3(enlarged_channels, enlarged_channels))
        self.conv_last = conv3x3(enlarged_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.conv_first(x)
        out = shallow + self.trunk_conv(self.SCPA_trunk(shallow))
        for stage, factor in enumerate(STAGES[self.scale], 1):
            out = self.get_submodule(f"upconv{stage}")(F.interpolate(out, scale_factor=factor, mode="nearest"))
            out = leaky(self.get_submodule(f"att{stage}")(out), _SLOPE)
            out = leaky(self.get_submodule(f"HRconv{stage}")(out), _SLOPE)
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.conv_last(out) + enlarged  # type: ignore[no-any-return]
