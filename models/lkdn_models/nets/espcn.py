"""ESPCN: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network",
Shi et al., CVPR 2016.

Written from the paper, with the parameter names of the checkpoints that ETDS's authors published, which are for RGB and
end in a sigmoid.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv3x3
from lkdn_models.nets.shapes import Shapes, shuffled_scale


class ESPCN(SRNetwork):
    """ESPCN, for RGB in 0..1. ``channels`` and ``narrow`` are the numbers of features."""

    receptive_radius = 4

    def __init__(self, scale: int, *, channels: int = 64, narrow: int = 32) -> None:
        super().__init__(scale)
        self.conv1 = nn.Conv2d(3, channels, 5, padding=2)
        self.conv2 = conv3x3(channels, narrow)
        self.conv3 = conv3x3(narrow, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        out, narrow = shapes["conv3.weight"][:2]
        return {"scale": shuffled_scale(out), "channels": shapes["conv1.weight"][0], "narrow": narrow}

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = torch.tanh(conv(x))
        return torch.sigmoid(self.shuffle(self.conv3(x)))
