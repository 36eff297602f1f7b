"""SPAN: "Swift Parameter-free Attention Network for Efficient Super-Resolution", Wan et al., CVPR-W 2024.

Written from the paper, with the parameter names of the published checkpoints.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, add_numbered, conv1x1, numbered, shuffled
from lkdn_models.nets.conv3xc import conv3xc, gain_of
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale

MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K's training images."""


class SPAB(nn.Module):
    """Swift parameter-free attention block: three convolutions, and an attention that is a function of their result.

    The attention is odd, ``sigmoid(y) - 1/2``, so that the sign of a feature counts. Where the numbers of channels
    differ there is neither a shortcut nor attention.
    """

    def __init__(self, in_channels: int, channels: int, trained: int = 0) -> None:
        super().__init__()
        conv = conv3xc(trained)
        self.c1_r = conv(in_channels, channels)
        self.c2_r = conv(channels, channels)
        self.c3_r = conv(channels, channels)
        self.same = in_channels == channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result, and the first convolution's features *after* their activation.

        The published code activates in place, so those are what its network hands on.
        """
        first = F.silu(self.c1_r(x))
        y = self.c3_r(F.silu(self.c2_r(first)))
        return ((x + y) * (torch.sigmoid(y) - 0.5) if self.same else y), first


class SPAN(SRNetwork):
    """SPAN, for RGB in 0..1.

    DIV2K's mean is subtracted and 255 multiplied inside, and nothing is added back. Neither is part of a state dict,
    and the mean cannot become part of the first convolution's bias: its zero padding is of the shifted picture.

    Args:
        scale: enlargement factor.
        channels: number of features.
        blocks: number of attention blocks.
        norm: 1, or 0 for the picture as it is. The community's trainers leave ``no_norm`` in the file then.
        trained: 0 for merged convolutions, or the ``gain`` of the training form's.
    """

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 48,
        blocks: int = 6,
        norm: int = 1,
        trained: int = 0,
    ) -> None:
        super().__init__(scale)
        self.receptive_radius = 3 * blocks + 3
        self.norm = norm
        if norm:
            self.register_buffer("mean", torch.tensor(MEAN)[None, :, None, None], persistent=False)
        else:
            self.register_buffer("no_norm", torch.zeros(1))
        conv = conv3xc(trained)
        self.conv_1 = conv(3, channels)
        add_numbered(self, "block_", (SPAB(channels, channels, trained) for _ in range(blocks)))
        self.conv_cat = conv1x1(4 * channels, channels)
        self.conv_2 = conv(channels, channels)
        self.upsampler = shuffled(channels, scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["upsampler.0.weight"][0]),
            "channels": shapes["conv_cat.weight"][0],
            "blocks": count_blocks(shapes, r"block_(\d+)\.c1_r\.eval_conv\."),
            "norm": int("no_norm" not in shapes),
            "trained": gain_of(shapes, "conv_1"),
        }

    def forward(self, x: Tensor) -> Tensor:
        deep = shallow = self.conv_1((x - self.get_buffer("mean")) * 255 if self.norm else x)
        outputs = []
        first = shallow
        for block in numbered(self, "block_"):
            deep, first = block(deep)
            outputs.append(deep)
        joined = torch.cat([shallow, self.conv_2(deep), outputs[0], first], dim=1)
        return self.upsampler(self.conv_cat(joined))  # type: ignore[no-any-return]
