"""SMFANet: "SMFANet: A Lightweight Self-Modulation Feature Aggregation Network for Efficient Image Super-Resolution",
Zheng et al., ECCV 2024.

Written from the paper, with the parameter names of the published checkpoints.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3, shuffled, unit_vectors
from lkdn_models.nets.cells import CellGrid, Cells, largest_in_cells, spread_over_pixels, variance
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale

CELL = 8
"""Least sides of the cells over which the largest values are taken."""


class DetailBranch(nn.Module):
    """The local branch of SMFA: a depthwise 3x3 to twice as many channels, and two 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels)
        self.conv_0 = nn.Sequential(depthwise, conv1x1(2 * channels, 2 * channels))
        self.conv_1 = conv1x1(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_1(F.gelu(self.conv_0(x)))  # type: ignore[no-any-return]


class SMFA(nn.Module):
    """Self-modulation feature aggregation.

    One half of the channels is refined locally. The other is weighed by a coarse map of its largest values and of its
    (unbiased) variance over the whole picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear_0 = conv1x1(channels, 2 * channels)
        self.linear_1 = conv1x1(channels, channels)
        self.linear_2 = conv1x1(channels, channels)
        self.lde = DetailBranch(channels)
        self.dw_conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.belt = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, cells: Cells) -> Tensor:
        local, modulated = self.linear_0(x).chunk(2, dim=1)
        coarse = self.dw_conv(largest_in_cells(modulated, cells, CELL)) * self.alpha
        coarse = F.gelu(self.linear_1(coarse + variance(modulated) * self.belt))
        modulated = modulated * spread_over_pixels(coarse, cells, x)
        return self.linear_2(modulated + self.lde(local))  # type: ignore[no-any-return]


class PCFN(nn.Module):
    """Partial convolution-based feed-forward network: a 3x3 convolution on a quarter of the widened channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.part = channels // 2
        self.conv_0 = conv1x1(channels, 2 * channels)
        self.conv_1 = conv3x3(self.part, self.part)
        self.conv_2 = conv1x1(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.gelu(self.conv_0(x))
        refined = F.gelu(self.conv_1(wide[:, : self.part]))
        return self.conv_2(torch.cat([refined, wide[:, self.part :]], dim=1))  # type: ignore[no-any-return]


class FMB(nn.Module):
    """Feature modulation block. Both parts get unit vectors: each pixel is divided by the length of its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.smfa = SMFA(channels)
        self.pcfn = PCFN(channels)

    def forward(self, x: Tensor, cells: Cells) -> Tensor:
        x = x + self.smfa(unit_vectors(x), cells)
        return x + self.pcfn(unit_vectors(x))  # type: ignore[no-any-return]


class SMFANet(SRNetwork):
    """SMFANet, for RGB in 0..1; no mean is subtracted. By its modulation a pixel depends on the whole picture."""

    smallest = CELL

    def __init__(self, scale: int, *, channels: int = 36, blocks: int = 8) -> None:
        super().__init__(scale)
        self.to_feat = conv3x3(3, channels)
        self.cells = CellGrid(CELL)
        self.feats = nn.ModuleList(FMB(channels) for _ in range(blocks))
        self.to_img = shuffled(channels, scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        return {
            "scale": shuffled_scale(shapes["to_img.0.weight"][0]),
            "channels": shapes["to_feat.weight"][0],
            "blocks": count_blocks(shapes, r"feats\.(\d+)\.smfa\."),
        }

    def forward(self, x: Tensor) -> Tensor:
        cells = self.cells(x)
        deep = shallow = self.to_feat(x)
        for block in self.feats:
            deep = block(deep, cells)
        return self.to_img(deep + shallow)  # type: ignore[no-any-return]
