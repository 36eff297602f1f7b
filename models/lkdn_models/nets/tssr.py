"""TSSR: residual blocks of four re-parameterised convolutions, from NTIRE's efficiency challenge of 2025.

Written from what the weights tell, with the parameter names of the published checkpoint.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, shuffled
from lkdn_models.nets.conv3xc import conv3xc, gain_of
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


class ExternBlock(nn.Module):
    """Four convolutions, each with SiLU behind it, and a shortcut around them."""

    def __init__(self, channels: int, trained: int) -> None:
        super().__init__()
        conv = conv3xc(trained)
        # It is the third to run, though the checkpoint has it first.
        self._extern_conv_block = nn.Sequential(conv(channels, channels))
        self.c1_r = conv(channels, channels)
        self.c2_r = conv(channels, channels)
        self.c3_r = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.c1_r, self.c2_r, self._extern_conv_block, self.c3_r):
            y = F.silu(conv(y))
        return x + y


class TSSR(SRNetwork):
    """TSSR, for RGB in 0..1; no mean is subtracted. ``trained`` is as SPAN takes it."""

    def __init__(self, scale: int = 4, *, channels: int = 32, blocks: int = 4, trained: int = 0) -> None:
        super().__init__(scale)
        self.receptive_radius = 4 * blocks + 2
        self.conv_1 = conv3xc(trained)(3, channels)
        self.blocks = nn.Sequential(*(ExternBlock(channels, trained) for _ in range(blocks)))
        self.conv_2 = conv1x1(channels, channels)
        self.upsampler = shuffled(channels, scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["upsampler.0.weight"][0]),
            "channels": shapes["conv_1.eval_conv.weight"][0],
            "blocks": count_blocks(shapes, r"blocks\.(\d+)\._extern_conv_block\."),
            "trained": gain_of(shapes, "conv_1"),
        }

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.conv_1(x)
        return self.upsampler(self.conv_2(self.blocks(shallow)) + shallow)  # type: ignore[no-any-return]
