"""GFMN, an entry to NTIRE's efficiency challenge of 2024: Ren et al., "The Ninth NTIRE 2024 Efficient Super-Resolution
Challenge Report", CVPR-W 2024.

Written from a description of its computation, with the parameter names of the published checkpoint.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3, shuffled, unbiased
from lkdn_models.nets.cells import CellGrid, Cells, largest_in_cells, spread_over_pixels
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale
from lkdn_models.nets.span import MEAN

SIDES = (4, 8, 16)
"""Least sides of the cells of the three coarse levels."""


class FirstAxisNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Contrast(nn.Module):
    """A learned part of the difference from a mean, added for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        return x + self.scale * (x - mean)


class Modulation(nn.Module):
    """Features weighed by what a quarter of them is at a pixel, and three others are at most around it.

    The features' difference from their mean over the whole picture is changed before.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.quarter = channels // (len(SIDES) + 1)
        self.proj_1 = conv1x1(channels, channels)
        self.sigma = Contrast(channels)
        self.mfr = nn.ModuleList(
            nn.Conv2d(self.quarter, self.quarter, 3, padding=1, groups=self.quarter) for _ in range(len(SIDES) + 1)
        )
        self.aggr = conv1x1(channels, channels)

    def forward(self, x: Tensor, grids: list[Cells]) -> Tensor:
        y = self.proj_1(x)
        features = F.gelu(self.sigma(y, F.adaptive_avg_pool2d(y, 1)))
        parts = torch.split(features, self.quarter, dim=1)
        levels = [self.mfr[0](parts[0])]
        for part, conv, cells, side in zip(parts[1:], list(self.mfr)[1:], grids, SIDES, strict=True):
            levels.append(spread_over_pixels(conv(largest_in_cells(part, cells, side)), cells, x))
        return F.gelu(self.aggr(torch.cat(levels, dim=1))) * features


class GatedFeedForward(nn.Module):
    """Products of two halves of widened features, whose difference from one map of all of them is changed."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.project_in = unbiased(channels, 2 * inner, 1)
        self.dwconv = unbiased(2 * inner, 2 * inner, 3, groups=2 * inner)
        self.decompose = conv1x1(inner, 1)
        self.sigma = Contrast(inner)
        self.project_out = unbiased(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.dwconv(self.project_in(x))
        gated = wide[:, : self.inner] * wide[:, self.inner :]
        return self.project_out(self.sigma(gated, F.gelu(self.decompose(gated))))  # type: ignore[no-any-return]


class GFMB(nn.Module):
    """Modulation and feed-forward, each of normalised features and with a shortcut."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = FirstAxisNorm(channels), FirstAxisNorm(channels)
        self.safm = Modulation(channels)
        self.ffd = GatedFeedForward(channels, inner)

    def forward(self, x: Tensor, grids: list[Cells]) -> Tensor:
        x = x + self.safm(self.norm1(x), grids)
        return x + self.ffd(self.norm2(x))  # type: ignore[no-any-return]


class GFMN(SRNetwork):
    """GFMN, for RGB in 0..1. By its means and cells a pixel depends on the whole picture.

    DIV2K's mean, which is no part of a state dict, is subtracted from the input and added to the result, to which the
    bilinear enlargement of the input with its mean is added, too.
    """

    smallest = SIDES[-1]

    def __init__(self, scale: int = 4, *, channels: int = 32, inner: int = 57, blocks: int = 8) -> None:
        super().__init__(scale)
        self.register_buffer("mean", torch.tensor(MEAN)[None, :, None, None], persistent=False)
        self.mean: Tensor
        self.to_feat = conv3x3(3, channels)
        self.grids = nn.ModuleList(CellGrid(side) for side in SIDES)
        self.feats = nn.ModuleList(GFMB(channels, inner) for _ in range(blocks))
        self.to_img = shuffled(channels, scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["to_img.0.weight"][0]),
            "channels": shapes["to_feat.weight"][0],
            "inner": shapes["feats.0.ffd.project_out.weight"][1],
            "blocks": count_blocks(shapes, r"feats\.(\d+)\.ffd\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        grids = [grid(x) for grid in self.grids]
        deep = self.to_feat(x - self.mean)
        for block in self.feats:
            deep = block(deep, grids)
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.to_img(deep) + self.mean + enlarged  # type: ignore[no-any-return]
