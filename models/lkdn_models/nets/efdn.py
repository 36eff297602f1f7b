"""EFDN: "Edge-enhanced Feature Distillation Network for Efficient Super-Resolution", Wang, CVPR-W 2022.

Written from the paper, with the parameter names of the published checkpoint, whose edge-enhanced diverse branch blocks
are merged.
"""

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import ESA, SRNetwork, conv1x1, conv3x3, shuffled


class ActivatedPointwise(nn.Module):
    """A 1x1 convolution with PReLU behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1x1 = conv1x1(channels, channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv1x1(x))  # type: ignore[no-any-return]


class MergedEDBB(nn.Module):
    """Edge-enhanced diverse branch block, merged into one 3x3 convolution, with PReLU behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rep_conv = conv3x3(channels, channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.rep_conv(x))  # type: ignore[no-any-return]


class EFDB(nn.Module):
    """Edge-enhanced feature distillation block: half as many channels of the input and of each step are kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ActivatedPointwise(channels)
        self.conv2 = MergedEDBB(channels)
        self.conv3 = MergedEDBB(channels)
        self.fuse = conv1x1(4 * (channels // 2), channels)
        self.att = ESA(channels, channels // 4)
        self.branch = nn.ModuleList(conv1x1(channels, channels // 2) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for conv in (self.conv1, self.conv2, self.conv3):
            outputs.append(conv(outputs[-1]))
        kept = [branch(output) for branch, output in zip(self.branch, outputs, strict=True)]
        return x + self.att(self.fuse(torch.cat(kept, dim=1)))  # type: ignore[no-any-return]


class EFDN(SRNetwork):
    """EFDN, for RGB in 0..1; no mean is subtracted. By its attention a pixel depends on the picture's size."""

    smallest = ESA.SMALLEST

    def __init__(self, scale: int = 4, *, channels: int = 48) -> None:
        super().__init__(scale)
        self.head = conv3x3(3, channels)
        self.cells = nn.ModuleList(EFDB(channels) for _ in range(4))
        self.local_fuse = nn.ModuleList(conv1x1(2 * channels, channels) for _ in range(3))
        self.tail = shuffled(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.head(x)
        first = self.cells[0](shallow)
        second = self.cells[1](first)
        deep = self.local_fuse[0](torch.cat([first, second], dim=1))
        # The last two fusions take the second block's output, not the one before their own.
        for cell, fuse in zip(self.cells[2:], self.local_fuse[1:], strict=True):
            deep = fuse(torch.cat([second, cell(deep)], dim=1))
        return self.tail(deep + shallow)  # type: ignore[no-any-return]
