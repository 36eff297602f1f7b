"""R2Net, an entry to NTIRE's efficiency challenge of 2024: Ren et al., "The Ninth NTIRE 2024 Efficient Super-Resolution
Challenge Report", CVPR-W 2024.

Written from a description of its computation, with the parameter names of the published checkpoint, which is in the
merged form.
"""

from typing import Any

from torch import Tensor, nn

from lkdn_models.nets.blocks import ESA, SRNetwork, add_numbered, leaky, numbered, unbiased
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


class R2Block(nn.Module):
    """Two 3x3 convolutions and an attention, without a shortcut and without biases."""

    def __init__(self, channels: int, esa_width: int) -> None:
        super().__init__()
        self.c1_r = unbiased(channels, channels, 3)
        self.c3_r = unbiased(channels, channels, 3)
        self.esa = ESA(
            channels,
            esa_width,
            conv=lambda width, same: unbiased(width, same, 3),
            pointwise=lambda in_channels, out_channels: unbiased(in_channels, out_channels, 1),
            shrink=lambda width, same: nn.Conv2d(width, same, 3, stride=2, bias=False),
            joined=lambda *_: nn.Identity(),
            steps=("conv3",),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.esa(self.c3_r(leaky(self.c1_r(x))))  # type: ignore[no-any-return]


class R2Net(SRNetwork):
    """R2Net, for RGB in 0..1. By its attention a pixel depends on the picture's size."""

    smallest = ESA.SMALLEST

    def __init__(self, scale: int = 4, *, channels: int = 48, width: int = 16, blocks: int = 4) -> None:
        super().__init__(scale)
        self.conv_1 = unbiased(3, channels, 3)
        add_numbered(self, "block_", (R2Block(channels, width) for _ in range(blocks)))
        self.conv_2 = unbiased(channels, channels, 1)
        self.upsampler = nn.Sequential(unbiased(channels, 3 * scale**2, 3), nn.PixelShuffle(scale))

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["upsampler.0.weight"][0]),
            "channels": shapes["conv_1.weight"][0],
            "width": shapes["block_1.esa.conv1.weight"][0],
            "blocks": count_blocks(shapes, r"block_(\d+)\.esa\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        deep = shallow = self.conv_1(x)
        for block in numbered(self, "block_"):
            deep = block(deep)
        return self.upsampler(self.conv_2(deep) + shallow)  # type: ignore[no-any-return]
