"""LKDN and LKDN-S: "Large Kernel Distillation Network for Efficient Single Image Super-Resolution", Xie et al., 2023.

Written from the paper, with the parameter names of the published checkpoints.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.nets.blocks import BSRB, RBSB, BSConv, LargeKernelAttention, PixelNorm, RepUpsampler, replicate


class LKDB(nn.Module):
    """Large kernel distillation block (paper, section 3.2): three distillation steps, attention, pixel norm."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__()
        channels, distilled = spec.channels, spec.distilled_channels
        self.c1_d = nn.Conv2d(channels, distilled, 1)
        self.c1_r = _refinement(spec.block, channels)
        self.c2_d = nn.Conv2d(channels, distilled, 1)
        self.c2_r = _refinement(spec.block, channels)
        self.c3_d = nn.Conv2d(channels, distilled, 1)
        self.c3_r = _refinement(spec.block, channels)
        self.c4 = BSConv(channels, distilled)
        self.c5 = nn.Conv2d(4 * distilled, spec.attention_channels, 1)
        self.atten = LargeKernelAttention(spec.attention_channels)
        self.c6 = nn.Conv2d(spec.attention_channels, channels, 1)
        self.pixel_norm = PixelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        refined, distilled = x, []
        for distil, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            distilled.append(F.gelu(distil(refined)))
            refined = F.gelu(refine(refined))
        distilled.append(F.gelu(self.c4(refined)))
        out = self.atten(self.c5(torch.cat(distilled, dim=1)))
        return self.pixel_norm(self.c6(out)) + x  # type: ignore[no-any-return]


def _refinement(block: Block, channels: int) -> BSConv:
    match block:
        case Block.BSB:
            return BSConv(channels, channels)
        case Block.BSRB:
            return BSRB(channels)
        case Block.RBSB:
            return RBSB(channels)


class LKDN(nn.Module):
    """LKDN as ``spec`` describes it. RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped."""

    peak = 1.0
    """The top of the range of values."""
    smallest = 1
    """The least height and width that it takes."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__()
        self.spec = spec
        self.scale = spec.scale
        self.receptive_radius = spec.receptive_radius
        channels = spec.channels
        self.fea_conv = BSConv(3 * spec.input_copies, channels)
        self._block_names = [f"B{i + 1}" for i in range(spec.blocks)]
        for name in self._block_names:
            self.add_module(name, LKDB(spec))
        self.c1 = nn.Conv2d(spec.blocks * channels, channels, 1)
        self.c2 = BSConv(channels, channels)
        self.upsampler: nn.Module
        if spec.upsampler is Upsampler.REP:
            self.upsampler = RepUpsampler(channels, spec.scale)
        else:
            self.upsampler = nn.Sequential(
                nn.Conv2d(channels, 3 * spec.scale**2, 3, padding=1), nn.PixelShuffle(spec.scale)
            )

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in order."""
        return [self.get_submodule(name) for name in self._block_names]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        return self.reconstruct(self.features(x))

    def shallow(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H, W): the features that the first block gets."""
        return self.fea_conv(replicate(x, self.spec.input_copies))  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the shallow features and the output of each block, (N, C, H, W)."""
        found = [self.shallow(x)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def reconstruct(self, features: Sequence[Tensor]) -> Tensor:
        """Return the output, (N, 3, scale * H, scale * W), made of all that ``features`` gives."""
        shallow, *deep = features
        trunk = F.gelu(self.c1(torch.cat(deep, dim=1)))
        return self.upsampler(self.c2(trunk) + shallow)  # type: ignore[no-any-return]
