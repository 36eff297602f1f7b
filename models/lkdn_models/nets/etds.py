"""ETDS: "Equivalent Transformation and Dual Stream Network Construction for Mobile Image Super-Resolution",
Chao et al., CVPR 2023.

Written from the paper, with the parameter names of the published checkpoints, which are in the form for deployment.
"""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3
from lkdn_models.nets.ecbsr import merged_ecb
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


class TransformedECBSR(SRNetwork):
    """ECBSR after ETDS's "equivalent transformation", for RGB in 0..1: nothing is added at the end.

    The picture goes through the convolutions in channels of its own, so there are a few more than ECBSR has.

    Args:
        scale: enlargement factor.
        channels: number of features, with the picture's.
        depth: number of convolutions between the first and the last 3x3.
    """

    def __init__(self, scale: int, *, channels: int = 20, depth: int = 4) -> None:
        super().__init__(scale)
        self.receptive_radius = depth + 2
        last = padded_channels(scale)
        widths = [3, *[channels] * (depth + 1)]
        self.backbone = nn.Sequential(
            *(merged_ecb(*pair, act=True) for pair in pairwise(widths)),
            *(nn.Sequential(conv3x3(channels, last), nn.ReLU()), nn.Sequential(conv1x1(last, last), nn.ReLU())),
        )
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        last = count_blocks(shapes, r"backbone\.(\d+)\.") - 1
        return {
            "scale": shuffled_scale(shapes[f"backbone.{last}.0.weight"][0]),
            "channels": shapes["backbone.0.0.weight"][0],
            "depth": last - 2,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.backbone(x)[:, : 3 * self.scale**2])  # type: ignore[no-any-return]


def padded_channels(scale: int) -> int:
    """Return the number of channels of an enlarged RGB picture before the pixel shuffle, made a multiple of four."""
    return -(-3 * scale**2 // 4) * 4


class ETDS(SRNetwork):
    """ETDS in the form for deployment, for RGB in 0..1: 3x3 convolutions with ReLU behind them.

    The picture goes through the convolutions beside the features, so nothing is added at the end. The last two layers
    bound the result at 1 and at 0.

    Args:
        scale: enlargement factor.
        channels: number of features, with the picture's.
        depth: number of convolutions between the first and the last 3x3.
    """

    def __init__(self, scale: int, *, channels: int = 48, depth: int = 7) -> None:
        super().__init__(scale)
        self.receptive_radius = depth + 2
        self.conv_first = conv3x3(3, channels)
        self.backbone_convs = nn.ModuleList(conv3x3(channels, channels) for _ in range(depth))
        self.conv_last = conv3x3(channels, padded_channels(scale))
        self.conv_clip = conv1x1(padded_channels(scale), padded_channels(scale))
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["conv_clip.weight"][0]),
            "channels": shapes["conv_first.weight"][0],
            "depth": count_blocks(shapes, r"backbone_convs\.(\d+)\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv_first, *self.backbone_convs, self.conv_last, self.conv_clip):
            x = F.relu(conv(x))
        return self.shuffle(x[:, : 3 * self.scale**2])  # type: ignore[no-any-return]
