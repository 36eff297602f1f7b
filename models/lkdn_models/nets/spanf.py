"""SPANF, PDS and PKDSR: SPAN's blocks on the picture itself, from NTIRE's efficiency challenges of 2025 and 2026.

Written from what the weights tell, with the parameter names of the published checkpoints.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, add_numbered, conv1x1, numbered
from lkdn_models.nets.conv3xc import conv3xc, gain_of
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale
from lkdn_models.nets.span import SPAB


class SPANF(SRNetwork):
    """SPANF, for RGB in 0..1; no mean is subtracted.

    Five blocks of SPAN, the first of which reads the picture. What they make is joined to an enlarged picture, which a
    depthwise convolution holds before the pixel shuffle: it begins as nearest-neighbour enlargement and is trained.

    Args:
        scale: enlargement factor.
        channels: number of features.
        squeezed: number of channels between the last two convolutions.
        blocks: number of blocks.
        ending: number that follows the names of the last two convolutions, as in PDS; 0: none.
        trained: as ``SPAN`` takes it.
    """

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 32,
        squeezed: int = 32,
        blocks: int = 5,
        ending: int = 0,
        trained: int = 0,
    ) -> None:
        super().__init__(scale)
        self.receptive_radius = 3 * blocks + 1
        suffix = f"_{ending}" if ending else ""
        self.last = f"conv_cat{suffix}", f"conv_2{suffix}"
        enlarged = 3 * scale**2
        self.conv_near = nn.Conv2d(3, enlarged, 3, padding=1, groups=3, bias=False)
        widths = (3, *[channels] * blocks)
        add_numbered(self, "block_", (SPAB(*pair, trained) for pair in pairwise(widths)))
        self.add_module(self.last[0], conv1x1(enlarged + 2 * channels, squeezed))
        self.add_module(self.last[1], conv3xc(trained)(squeezed, enlarged))
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        ending = int("conv_cat_1.weight" in shapes)
        return {
            "scale": shuffled_scale(shapes["conv_near.weight"][0]),
            "channels": shapes["block_1.c1_r.eval_conv.weight"][0],
            "squeezed": shapes["conv_cat_1.weight" if ending else "conv_cat.weight"][0],
            "blocks": count_blocks(shapes, r"block_(\d+)\.c1_r\.eval_conv\."),
            "ending": ending,
            "trained": gain_of(shapes, "block_1.c1_r"),
        }

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        deep = x
        for block in numbered(self, "block_"):
            deep, _ = block(deep)
            outputs.append(deep)
        y = torch.cat([self.conv_near(x), deep, outputs[0]], dim=1)
        for name in self.last:
            y = self.get_submodule(name)(y)
        return self.shuffle(y)  # type: ignore[no-any-return]
