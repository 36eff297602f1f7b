"""BSRN: "Blueprint Separable Residual Network for Efficient Image Super-Resolution", Li et al., CVPR-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from collections import OrderedDict
from typing import ClassVar, Self

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
    conv1x1,
    joined,
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

    reach: ClassVar[int | None] = None
    smallest: ClassVar[int] = ESA.SMALLEST

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BSRB, conv=BSConv)
        self.esa = ESA(channels, channels // 4, F.gelu, conv=BSConv, shrink=StridedBSConv)
        self.cca = CCA(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.cca(self.esa(super().forward(x)))  # type: ignore[no-any-return]


class PlainESDB(FeatureDistillation):
    """The block of the ablation without attention."""

    reach: ClassVar[int | None] = 4
    """In pixels: its four 3x3 convolutions."""
    smallest: ClassVar[int] = 1

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BSRB, conv=BSConv)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + super().forward(x)


class Pointwise(nn.Linear):
    """A 1x1 convolution that keeps its weights as (out, in), as BSRN-S does."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class BiasedBSConv(nn.Module):
    """BSRN-S's blueprint separable convolution: its 1x1 has a bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pw = Pointwise(in_channels, out_channels)
        self.dw = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return self.dw(self.pw(x))  # type: ignore[no-any-return]


class BiasedBSRB(BiasedBSConv):
    """BSRN-S's blueprint separable convolution with a shortcut around both convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x) + x


class SmallESDB(FeatureDistillation):
    """The block of BSRN-S, with a learned weight per channel instead of channel attention, and one more 1x1."""

    reach: ClassVar[int | None] = None
    smallest: ClassVar[int] = ESA.SMALLEST

    def __init__(self, channels: int) -> None:
        super().__init__(channels, F.gelu, refine=BiasedBSRB, conv=BiasedBSConv, pointwise=Pointwise)
        self.esa = ESA(channels, channels // 4, F.gelu, conv=BiasedBSConv, pointwise=Pointwise)
        self.cw = nn.Parameter(torch.ones(1, channels))
        self.conv_out = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.conv_out(self.esa(super().forward(x)) * self.cw[:, :, None, None])  # type: ignore[no-any-return]


class BSRN(nn.Module):
    """RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped; no mean is subtracted.

    The first convolution gets four copies of the input. ``receptive_radius`` is the distance in LR pixels beyond which
    an input pixel cannot change an output pixel; None with attention, where each depends on the whole picture.
    """

    peak = 1.0
    """The top of the range of values."""

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
        super().__init__()
        self.scale = scale
        self.smallest = block.smallest  # height and width
        # The first convolution, the last and the up-sampling one add 1 each.
        self.receptive_radius = None if block.reach is None else blocks * block.reach + 3
        self.fea_conv = conv(3 * INPUT_COPIES, channels)
        self._block_names = [f"B{i + 1}" for i in range(blocks)]
        for name in self._block_names:
            self.add_module(name, block(channels))
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
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.fea_conv(replicate(x, INPUT_COPIES))
        deep = F.gelu(self.c1(joined(map(self.get_submodule, self._block_names), shallow)))
        return self.upsampler(self.c2(deep) + shallow)  # type: ignore[no-any-return]
