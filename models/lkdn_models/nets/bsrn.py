"""BSRN: "Blueprint Separable Residual Network for Efficient Image Super-Resolution", Li et al., CVPR-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from collections import OrderedDict
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import (
    BSRB,
    CCA,
    ESA,
    BSConv,
    FeatureDistillation,
    Layer,
    SRNetwork,
    add_numbered,
    conv1x1,
    joined,
    numbered,
    replicate,
    shuffled,
)

INPUT_COPIES = 4


class StridedBSConv(BSConv):
    """A blueprint separable convolution whose depthwise part is unpadded, with stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.dw = nn.Conv2d(out_channels, out_channels, 3, stride=2, groups=out_channels)


class ESDB(FeatureDistillation):
    """Efficient separable distillation block, with both attentions."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BSRB, conv=BSConv)
        self.esa = ESA(channels, channels // 4, F.gelu, conv=BSConv, shrink=StridedBSConv)
        self.cca = CCA(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cca(self.esa(super().forward(x)))  # type: ignore[no-any-return]


class PlainESDB(FeatureDistillation):
    """The block of the ablation without attention."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BSRB, conv=BSConv)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Pointwise(nn.Linear):
    """A 1x1 convolution, (N, in, H, W) -> (N, out, H, W), that keeps its weights as (out, in), as BSRN-S does."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class BiasedBSConv(BSConv):
    """BSRN-S's blueprint separable convolution: its 1x1 has a bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.pw = Pointwise(in_channels, out_channels)


class BiasedBSRB(BSRB):
    """BSRN-S's blueprint separable convolution with a shortcut around both convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.pw = Pointwise(channels, channels)


class SmallESDB(FeatureDistillation):
    """The block of BSRN-S, with a learned weight per channel instead of channel attention, and one more 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BiasedBSRB, conv=BiasedBSConv, pointwise=Pointwise)
        self.esa = ESA(channels, channels // 4, F.gelu, conv=BiasedBSConv, pointwise=Pointwise)
        self.cw = nn.Parameter(torch.ones(1, channels))
        self.conv_out = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(self.esa(super().forward(x)) * self.cw[:, :, None, None])  # type: ignore[no-any-return]


class BSRN(SRNetwork):
    """BSRN, for RGB in 0..1; no mean is subtracted. The first convolution gets four copies of the input.

    With attention every pixel depends on the whole picture.
    """

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 64,
        blocks: int = 8,
        block: type[ESDB | PlainESDB | SmallESDB] = ESDB,
        conv: Layer = BSConv,
        pointwise: Layer = conv1x1,
    ) -> None:
        super().__init__(scale)
        if block is PlainESDB:  # four 3x3 convolutions in a block; the first, the last and the up-sampling one
            self.receptive_radius = 4 * blocks + 3
        else:
            self.smallest = ESA.SMALLEST
        self.fea_conv = conv(3 * INPUT_COPIES, channels)
        add_numbered(self, "B", (block(channels) for _ in range(blocks)))
        self.c1 = pointwise(blocks * channels, channels)
        self.c2 = conv(channels, channels)
        self.upsampler = nn.Sequential(OrderedDict(upsampleOneStep=shuffled(channels, scale)))

    @classmethod
    def small(cls, scale: int = 4) -> Self:
        """Return BSRN-S, the entry to NTIRE 2022's efficiency challenge, published at x4 only."""
        return cls(scale, channels=48, blocks=5, block=SmallESDB, conv=BiasedBSConv, pointwise=Pointwise)

    @classmethod
    def without_attention(cls, scale: int = 4) -> Self:
        """Return the ablation without ESA and CCA, with which the LKDN paper compares attentions; it is unpublished."""
        return cls(scale, block=PlainESDB)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.fea_conv(replicate(x, INPUT_COPIES))
        deep = F.gelu(self.c1(joined(numbered(self, "B"), shallow)))
        return self.upsampler(self.c2(deep) + shallow)  # type: ignore[no-any-return]
