"""LKDN and LKDN-S: "Large Kernel Distillation Network for Efficient Single Image Super-Resolution", Xie et al., 2023.

Written from the paper, with the parameter names of the published checkpoints.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse.branches import Merged, Repeat
from lkdn_models.nets.blocks import (
    BSRB,
    RBSB,
    BSConv,
    FeatureDistillation,
    LargeKernelAttention,
    PixelNorm,
    RepUpsampler,
    SRNetwork,
    add_numbered,
    conv1x1,
    numbered,
    replicate,
    shuffled,
)
from lkdn_models.reparameterised import layers


class LKDB(FeatureDistillation):
    """Large kernel distillation block (LKDN paper): three distillation steps, attention, pixel norm."""

    def __init__(self, spec: LkdnSpec) -> None:
        channels, attention = spec.channels, spec.attention_channels
        refine = partial(_refinement, spec.block)
        super().__init__(channels, F.gelu, refine=refine, conv=BSConv, out_channels=attention)
        self.atten = LargeKernelAttention(attention)
        self.c6 = conv1x1(attention, channels)
        self.pixel_norm = PixelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pixel_norm(self.c6(self.atten(super().forward(x)))) + x  # type: ignore[no-any-return]


def _refinement(block: Block, channels: int) -> BSConv:
    match block:
        case Block.BSB:
            return BSConv(channels, channels)
        case Block.BSRB:
            return BSRB(channels)
        case Block.RBSB:
            return RBSB(channels)


class LKDN(SRNetwork):
    """LKDN as ``spec`` describes it, for RGB in 0..1."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__(spec.scale)
        self.spec = spec
        self.receptive_radius = spec.receptive_radius
        channels = spec.channels
        self.fea_conv = BSConv(3 * spec.input_copies, channels)
        add_numbered(self, "B", (LKDB(spec) for _ in range(spec.blocks)))
        self.c1 = conv1x1(spec.blocks * channels, channels)
        self.c2 = BSConv(channels, channels)
        self.upsampler = (RepUpsampler if spec.upsampler is Upsampler.REP else shuffled)(channels, spec.scale)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in order."""
        return numbered(self, "B")

    def forward(self, x: Tensor) -> Tensor:
        return self.reconstruct(self.features(x))

    def shallow(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, C, H, W): the features that the first block gets."""
        return self.fea_conv(replicate(x, self.spec.input_copies))  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        if self.spec.input_copies == 1:
            return {}
        return {"fea_conv.pw": Merged(3, ((Repeat(self.spec.input_copies), *layers(self, "fea_conv.pw")),))}

    def plain(self) -> "LKDN":
        return LKDN(replace(self.spec.deployed, input_copies=1))

    def features(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> the shallow features and the output of each block, (N, C, H, W)."""
        found = [self.shallow(x)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def reconstruct(self, features: Sequence[Tensor]) -> Tensor:
        """Return the output, (N, 3, scale * H, scale * W), made of all that ``features`` gives."""
        return self.upsampler(self.trunk(features))  # type: ignore[no-any-return]

    def trunk(self, features: Sequence[Tensor]) -> Tensor:
        """Return what the up-sampler gets, (N, C, H, W), made of all that ``features`` gives."""
        shallow, *deep = features
        return self.c2(F.gelu(self.c1(torch.cat(deep, dim=1)))) + shallow  # type: ignore[no-any-return]
