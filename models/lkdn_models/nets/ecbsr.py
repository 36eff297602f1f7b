"""ECBSR: "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", Zhang et al., ACM MM 2021.

Written from the paper, with the parameter names of the published checkpoints.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.fuse.branches import Chain, Convolution, Merged, Pad
from lkdn_models.nets.blocks import PixelCopies, SRNetwork, conv3x3
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale
from lkdn_models.reparameterised import layers

EDGES = {
    "conv1x1_sbx": ((1, 0, -1), (2, 0, -2), (1, 0, -1)),
    "conv1x1_sby": ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
    "conv1x1_lpl": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
}
"""The branches that find edges, and their kernels: Sobel's of both directions, and the Laplacian."""


class SequentialBranch(nn.Module):
    """A 1x1 convolution and a 3x3 one, between which the 1x1's bias is put around the map."""

    def __init__(self, in_channels: int, middle: int) -> None:
        super().__init__()
        point = nn.Conv2d(in_channels, middle, 1)
        self.k0, self.b0 = point.weight, point.bias

    def bordered(self, x: Tensor) -> Tensor:
        """Return the map of the 1x1, padded with what it makes of zeros: its bias."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.k0, self.b0)


class ExpandSqueeze(SequentialBranch):
    """A branch whose 3x3 convolution is learnt; the map between is ``gain`` times as wide as the result."""

    def __init__(self, in_channels: int, out_channels: int, gain: int) -> None:
        super().__init__(in_channels, gain * out_channels)
        conv = nn.Conv2d(gain * out_channels, out_channels, 3)
        self.k1, self.b1 = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.bordered(x), self.k1, self.b1)


class EdgeBranch(SequentialBranch):
    """A branch whose 3x3 convolution is depthwise, of a fixed kernel with a learnt factor for each channel."""

    def __init__(self, in_channels: int, out_channels: int, name: str) -> None:
        super().__init__(in_channels, out_channels)
        self.scale = nn.Parameter(torch.randn(out_channels, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(out_channels) * 1e-3)
        self.mask = nn.Parameter(
            torch.tensor(EDGES[name], dtype=torch.float32).repeat(out_channels, 1, 1, 1), requires_grad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.bordered(x), self.scale * self.mask, self.bias, groups=len(self.scale))


class PlainECB(nn.Module):
    """A 3x3 convolution with PReLU (or nothing) behind it: what an ECB becomes, by the names of the training form."""

    def __init__(self, in_channels: int, out_channels: int, *, act: bool) -> None:
        super().__init__()
        self.conv3x3 = conv3x3(in_channels, out_channels)
        self.act = nn.PReLU(out_channels) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv3x3(x))  # type: ignore[no-any-return]


class ECB(PlainECB):
    """Edge-oriented convolution block in training form: four branches beside the 3x3, all of which merge exactly.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        gain: how many times as wide as the result the map within the second branch is.
        act: whether PReLU follows.
    """

    def __init__(self, in_channels: int, out_channels: int, gain: int, *, act: bool = True) -> None:
        super().__init__(in_channels, out_channels, act=act)
        self.conv1x1_3x3 = ExpandSqueeze(in_channels, out_channels, gain)
        for name in EDGES:
            self.add_module(name, EdgeBranch(in_channels, out_channels, name))

    def forward(self, x: Tensor) -> Tensor:
        total = self.conv3x3(x) + self.conv1x1_3x3(x)
        for name in EDGES:
            total = total + self.get_submodule(name)(x)
        return self.act(total)  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        squeezed = self._behind_pointwise("conv1x1_3x3", Convolution("conv1x1_3x3.k1", "conv1x1_3x3.b1"))
        edges = (
            self._behind_pointwise(
                name,
                Convolution(f"{name}.scale", f"{name}.bias", groups=self.conv3x3.out_channels, mask=f"{name}.mask"),
            )
            for name in EDGES
        )
        return {"conv3x3": Merged(self.conv3x3.in_channels, (layers(self, "conv3x3"), squeezed, *edges))}

    def plain(self) -> PlainECB:
        conv = self.conv3x3
        return PlainECB(conv.in_channels, conv.out_channels, act=isinstance(self.act, nn.PReLU))

    def _behind_pointwise(self, name: str, last: Convolution) -> Chain:
        return (Pad((1, 1)), Convolution(f"{name}.k0", f"{name}.b0"), last)


class ECBSR(SRNetwork):
    """ECBSR: a row of edge-oriented blocks, whose result is added to the copied picture before the pixel shuffle.

    For RGB in 0..1, or luma in 16..235, which the paper's authors trained on.

    Args:
        scale: enlargement factor.
        channels: number of features.
        depth: number of blocks between the first and the last.
        colours: 3 for RGB, 1 for luma.
        trained: 0 for merged blocks, or how many times as wide as its result the training form's second branch is.
    """

    def __init__(self, scale: int, *, channels: int = 16, depth: int = 4, colours: int = 3, trained: int = 0) -> None:
        super().__init__(scale)
        self.peak = 255.0 if colours == 1 else 1.0
        self.receptive_radius = depth + 2
        widths = [colours, *[channels] * (depth + 1), colours * scale**2]
        pairs = list(pairwise(widths))
        self.backbone = nn.Sequential(
            *(_block(*pair, trained, act=number < len(pairs) - 1) for number, pair in enumerate(pairs))
        )
        self.copies = PixelCopies(colours, scale)
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        last = count_blocks(shapes, r"backbone\.(\d+)\.") - 1
        training = "backbone.0.conv3x3.weight" in shapes
        kind = "conv3x3" if training else "0"
        channels, colours = shapes[f"backbone.0.{kind}.weight"][:2]
        return {
            "scale": shuffled_scale(shapes[f"backbone.{last}.{kind}.weight"][0], colours),
            "channels": channels,
            "depth": last - 1,
            "colours": colours,
            "trained": shapes["backbone.0.conv1x1_3x3.k0"][0] // channels if training else 0,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.backbone(x) + self.copies(x))  # type: ignore[no-any-return]


def _block(in_channels: int, out_channels: int, trained: int, *, act: bool) -> nn.Module:
    if trained:
        return ECB(in_channels, out_channels, trained, act=act)
    return merged_ecb(in_channels, out_channels, act=act)


def merged_ecb(in_channels: int, out_channels: int, *, act: bool) -> nn.Sequential:
    """Return a merged block: a 3x3 convolution, and PReLU unless it is the last block."""
    conv = conv3x3(in_channels, out_channels)
    return nn.Sequential(conv, nn.PReLU(out_channels)) if act else nn.Sequential(conv)
