"""DIPNet: "DIPNet: Efficiency Distillation and Iterative Pruning for Image Super-Resolution", Yu et al., CVPR-W 2023.

Written from the paper and what the weights tell, with the parameter names of the slim version that was an entry to
NTIRE's efficiency challenge of 2025, which is in the merged form.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import ESA, SRNetwork, add_numbered, numbered
from lkdn_models.nets.conv3xc import MergedConv3XC


class Unbiased(nn.Module):
    """A merged 3x3 convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.eval_conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.eval_conv(x)  # type: ignore[no-any-return]


class RRFB(nn.Module):
    """Reparameterisation residual feature block: three convolutions with SiLU, a shortcut, a 1x1, attention."""

    def __init__(self, channels: int, esa_width: int) -> None:
        super().__init__()
        self.c1_r = Unbiased(channels, channels)
        self.c2_r = Unbiased(channels, channels)
        self.c3_r = Unbiased(channels, channels)
        self.c5 = nn.Conv2d(channels, channels, 1, bias=False)
        self.esa = ESA(channels, esa_width, conv=MergedConv3XC, steps=("conv3",))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            y = F.silu(conv(y))
        return self.esa(self.c5(x + y))  # type: ignore[no-any-return]


class DIPNet(SRNetwork):
    """DIPNet, for RGB in 0..1; no mean is subtracted. By its attention a pixel depends on the picture's size."""

    smallest = ESA.SMALLEST

    def __init__(self, scale: int = 4, *, channels: int = 32, blocks: int = 4) -> None:
        super().__init__(scale)
        self.conv_1 = Unbiased(3, channels)
        add_numbered(self, "block_", (RRFB(channels, channels // 2) for _ in range(blocks)))
        self.conv_2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.upsampler = nn.Sequential(Unbiased(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        deep = shallow = self.conv_1(x)
        for block in numbered(self, "block_"):
            deep = block(deep)
        return self.upsampler(self.conv_2(deep) + shallow)  # type: ignore[no-any-return]
