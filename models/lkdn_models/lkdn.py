"""LKDN and LKDN-S: "Large Kernel Distillation Network for Efficient Single Image Super-Resolution", Xie et al., 2023.

Written from the paper, with the parameter names of the published checkpoints.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.blocks import BSRB, RBSB, BSConv, LargeKernelAttention, PixelNorm, RepUpsampler, replicate


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
    """The network of ``spec``. RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped."""

    def __init__(self, spec: LkdnSpec) -> None:
        super().__init__()
        self.spec = spec
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

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.fea_conv(replicate(x, self.spec.input_copies))
        features, deep = shallow, []
        for name in self._block_names:
            features = self.get_submodule(name)(features)
            deep.append(features)
        trunk = F.gelu(self.c1(torch.cat(deep, dim=1)))
        return self.upsampler(self.c2(trunk) + shallow)  # type: ignore[no-any-return]


def recognise(state: Mapping[str, Tensor]) -> LkdnSpec:
    """Tell the network from its weights' names and shapes alone.

    BSB and BSRB have the same weights: what has no branch is taken for BSB, as every published checkpoint is.

    Raises:
        InputError: if the names or shapes are not those of an LKDN, listing what is wrong.
    """
    rep = "upsampler.conv3.weight" in state
    telling = ("fea_conv.pw.weight", "B1.c5.weight", "upsampler.conv3.weight" if rep else "upsampler.0.weight")
    for name in telling:
        if name not in state or state[name].ndim != 4:
            msg = f"not an LKDN checkpoint: it has no convolution {name}"
            raise InputError(msg, f"its keys: {_some(list(state))}")
    (channels, copied), attention, up = state[telling[0]].shape[:2], len(state[telling[1]]), len(state[telling[2]])
    try:
        spec = LkdnSpec(
            scale=round((up / 3) ** 0.5),
            blocks=max(int(match[1]) for name in state if (match := re.match(r"B(\d{1,4})\.", name))),
            channels=channels,
            attention_channels=attention,
            block=Block.RBSB if "B1.c1_r.rep1x1.weight" in state else Block.BSB,
            upsampler=Upsampler.REP if rep else Upsampler.PLAIN,
            input_copies=copied // 3,
        )
    except UsageError as error:
        msg = f"not an LKDN checkpoint: {error.message}"
        raise InputError(msg) from error
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in LKDN(spec).state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if found != expected:
        problems = (
            [f"{k} is missing" for k in expected.keys() - found.keys()]
            + [f"{k} is unknown" for k in found.keys() - expected.keys()]
            + [
                f"{k} is {found[k]}, not {expected[k]}"
                for k in found.keys() & expected.keys()
                if found[k] != expected[k]
            ]
        )
        msg = f"looks like an LKDN ({spec.blocks} blocks, {channels} channels, x{spec.scale}), but does not fit one"
        raise InputError(msg, _some(sorted(problems)))
    return spec


def _some(lines: list[str], limit: int = 8) -> str:
    """The first few, and how many more there are."""
    rest = len(lines) - limit
    return ", ".join(lines[:limit]) + (f" and {rest} more" if rest > 0 else "")
