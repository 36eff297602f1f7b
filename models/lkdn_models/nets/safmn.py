"""SAFMN v3, an entry to NTIRE's efficiency challenge of 2025: Ren et al., "The Tenth NTIRE 2025 Efficient
Super-Resolution Challenge Report", CVPR-W 2025.

Written from a description of its computation, with the parameter names of the published checkpoint.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, unbiased
from lkdn_models.nets.cells import CellGrid, Cells, largest_in_cells, variance
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale

CELL = 8
"""Least sides of the cells over which the largest values are taken."""


class PartialModulation(nn.Module):
    """A part of the features, weighed by a coarse map of their largest values and by their variance in the picture."""

    def __init__(self, channels: int, modulated: int) -> None:
        super().__init__()
        self.conv1 = unbiased(channels, modulated, 3)
        self.conv2 = unbiased(channels, channels - modulated, 3)
        self.dwconv = unbiased(modulated, modulated, 3, groups=modulated)
        self.conv3 = unbiased(modulated, modulated, 1)
        self.out = unbiased(channels, channels, 1)

    def forward(self, x: Tensor, cells: Cells) -> Tensor:
        modulated = self.conv1(x)
        coarse = self.conv3(self.dwconv(largest_in_cells(modulated, cells, CELL)) + variance(modulated))
        weights = F.gelu(F.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=False))
        return self.out(F.gelu(torch.cat([self.conv2(x), weights * modulated], dim=1)))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Two 1x1 convolutions with GELU between them."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = unbiased(channels, inner, 1)
        self.conv2 = unbiased(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))  # type: ignore[no-any-return]


class ModulatedBlock(nn.Module):
    """Modulation and mixer with one shortcut around both, without normalisation."""

    def __init__(self, channels: int, modulated: int, inner: int) -> None:
        super().__init__()
        self.conv1 = PartialModulation(channels, modulated)
        self.conv2 = Mixer(channels, inner)

    def forward(self, x: Tensor, cells: Cells) -> Tensor:
        return x + self.conv2(self.conv1(x, cells))  # type: ignore[no-any-return]


class SAFMNv3(SRNetwork):
    """SAFMN v3, for RGB in 0..1. By its modulation a pixel depends on the whole picture.

    Nothing normalises its features, whose variance weighs them: on strong noise between pixels they grow without
    bounds, in pictures they do not.
    """

    smallest = CELL

    def __init__(
        self, scale: int = 4, *, channels: int = 40, modulated: int = 12, inner: int = 60, blocks: int = 6
    ) -> None:
        super().__init__(scale)
        self.cells = CellGrid(CELL)
        self.to_feat = unbiased(3, channels, 3)
        self.feats = nn.ModuleList(ModulatedBlock(channels, modulated, inner) for _ in range(blocks))
        self.to_img = nn.Sequential(unbiased(channels, 3 * scale**2, 3), nn.PixelShuffle(scale))

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["to_img.0.weight"][0]),
            "channels": shapes["to_feat.weight"][0],
            "modulated": shapes["feats.0.conv1.conv1.weight"][0],
            "inner": shapes["feats.0.conv2.conv1.weight"][0],
            "blocks": count_blocks(shapes, r"feats\.(\d+)\.conv2\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        cells = self.cells(x)
        deep = self.to_feat(x)
        for block in self.feats:
            deep = block(deep, cells)
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.to_img(deep) + enlarged  # type: ignore[no-any-return]
