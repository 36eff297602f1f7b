"""SGSDN, an entry to NTIRE's efficiency challenge of 2025: Ren et al., "The Tenth NTIRE 2025 Efficient Super-Resolution
Challenge Report", CVPR-W 2025.

Written from a description of its computation, with the parameter names of the published checkpoint.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3, shuffled, unbiased, unit_vectors
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


def _depthwise(channels: int, kernel: tuple[int, int], dilation: int = 1) -> nn.Conv2d:
    """Return a depthwise convolution, zero-padded to the same size; the kernel has one row or one column."""
    padding = tuple(size // 2 * dilation for size in kernel)
    steps = tuple(dilation if size > 1 else 1 for size in kernel)
    return nn.Conv2d(channels, channels, kernel, padding=padding, dilation=steps, groups=channels)  # type: ignore[arg-type]


class SeparableAttention(nn.Module):
    """A gate through which one half of widened features weighs the other, near a pixel and far from it.

    The far part is large kernel attention of a 5 and a dilated 11, along rows and then along columns. The biases lie
    before zero padding, so the four do not merge.
    """

    REACH = 2 + 15
    """Distance that the two kernels along an axis reach."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pw1 = unbiased(channels, 2 * channels, 1)
        self.LKA35 = nn.Sequential(
            _depthwise(channels, (1, 5)),
            _depthwise(channels, (1, 11), dilation=3),
            _depthwise(channels, (5, 1)),
            _depthwise(channels, (11, 1), dilation=3),
        )
        self.pw2 = unbiased(channels, channels // 2, 1)
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.conv_1 = conv1x1(channels, channels // 2)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        wide = F.gelu(self.pw1(x))
        features, gate = wide[:, : self.channels], wide[:, self.channels :]
        near = F.gelu(self.conv_1(self.conv_0(features) * gate))
        return torch.cat([near, self.pw2(self.LKA35(features) * gate)], dim=1)


class Detail(nn.Module):
    """A depthwise 3x3 to twice as many channels, and a 1x1 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels)
        self.conv_1 = conv1x1(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_1(F.gelu(self.conv_0(x)))  # type: ignore[no-any-return]


class SGSDB(nn.Module):
    """Three attentions of unit vectors, each of the one before and with one shortcut around all, then the detail."""

    REACH = 3 * SeparableAttention.REACH + 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.VA1 = SeparableAttention(channels)
        self.VA2 = SeparableAttention(channels)
        self.VA3 = SeparableAttention(channels)
        self.VSD = Detail(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for attention in (self.VA1, self.VA2, self.VA3):
            y = attention(unit_vectors(y))
        y = y + x
        return self.VSD(y) + y  # type: ignore[no-any-return]


class SGSDN(SRNetwork):
    """SGSDN, for RGB in 0..1. It sees far, but not the whole picture: 52 pixels a block."""

    def __init__(self, scale: int = 4, *, channels: int = 24, blocks: int = 8) -> None:
        super().__init__(scale)
        self.receptive_radius = SGSDB.REACH * blocks + 2
        self.fea_conv = conv3x3(3, channels)
        self.feats = nn.ModuleList(SGSDB(channels) for _ in range(blocks))
        self.upsampler = shuffled(channels, scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["upsampler.0.weight"][0]),
            "channels": shapes["fea_conv.weight"][0],
            "blocks": count_blocks(shapes, r"feats\.(\d+)\.VA1\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        deep = shallow = self.fea_conv(x)
        for block in self.feats:
            deep = block(deep)
        return self.upsampler(deep + shallow)  # type: ignore[no-any-return]
