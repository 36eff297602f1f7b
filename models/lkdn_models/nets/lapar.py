"""LAPAR: "LAPAR: Linearly-Assembled Pixel-Adaptive Regression Network for Single Image Super-Resolution and Beyond",
Li et al., NeurIPS 2020.

Parameter names are those of the authors' code.
"""

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from lkdn_models.nets.blocks import SRNetwork, joined, numbered

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K's training images."""
_UNITS = 4
"""Residual units in a block."""


class LAPAR(SRNetwork):
    """LAPAR-A: bicubic interpolation, then a filter for every pixel.

    The filter is a mixture of those of ``dictionary``, with weights that a small network predicts from the image; it
    is the same for the three colours. RGB in 0..1; DIV2K's mean is subtracted inside, for the small network only. The
    interpolation is PyTorch's bicubic (a = -0.75), not MATLAB's; the enlarged image is mirrored beyond its edge, the
    network pads zeros.

    ``dictionary`` is (F, k, k), by default ``gaussian_dictionary()``. It is the buffer ``decom_conv.weight``, so
    loading a checkpoint replaces it by that file's dictionary. Convolutions are weight-normalised, as in training,
    until ``fold()``.
    """

    smallest = 2  # at x2: what is mirrored lies inside the enlarged picture

    def __init__(self, scale: int, *, channels: int = 32, blocks: int = 4, dictionary: Tensor | None = None) -> None:
        super().__init__(scale)
        # A block has nine 3x3; the first and the up-sampling convolution are 3x3; the rest sees 4 enlarged pixels.
        self.receptive_radius = 9 * blocks + 2 + math.ceil(4 / scale)
        self.decom_conv = _Dictionary(gaussian_dictionary() if dictionary is None else dictionary)
        self.w_conv = _WeightNet(scale, channels, blocks, len(self.decom_conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        image = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.decom_conv(self.w_conv(x), image)  # type: ignore[no-any-return]

    def fold(self) -> Self:
        """Replace every normalised weight by its value: the same function with fewer parameters."""
        with torch.enable_grad():  # otherwise the values would no longer be parameters
            for module in self.modules():
                if is_parametrized(module, "weight"):
                    remove_parametrizations(module, "weight")
        return self


class _Dictionary(nn.Module):
    """A mixture of filters at every pixel."""

    weight: Tensor
    neighbours: Tensor

    def __init__(self, dictionary: Tensor) -> None:
        super().__init__()
        filters, side, _ = dictionary.shape
        self.register_buffer("weight", dictionary.float().reshape(filters, 1, side, side))
        # A convolution that lays out a pixel's neighbours of each colour along the channels.
        ones = torch.eye(side**2).reshape(side**2, 1, side, side)
        self.register_buffer("neighbours", ones.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, weights: Tensor, image: Tensor) -> Tensor:
        """Filter an image (N, 3, H, W) by the mixtures with weights (N, F, H, W), -> (N, 3, H, W).

        Filters are mixed instead of filtered images, so no map has more channels than F or three times k * k.
        """
        side = self.weight.shape[-1]
        kernels = F.conv2d(weights, self.weight.flatten(1).t()[:, :, None, None])  # (N, k * k, H, W)
        image = F.pad(image, (side // 2,) * 4, mode="reflect")
        patches = F.conv2d(image, self.neighbours, groups=3).unflatten(1, (3, side**2))  # type: ignore[no-untyped-call]
        return (patches * kernels[:, None]).sum(dim=2)  # type: ignore[no-any-return]


class _WeightNet(nn.Module):
    """LaparNet, which predicts the weights of the filters at every output pixel."""

    rgb_mean: Tensor

    def __init__(self, scale: int, channels: int, blocks: int, filters: int) -> None:
        super().__init__()
        self.register_buffer("rgb_mean", torch.tensor(_MEAN)[None, :, None, None])
        self.head = nn.Sequential(_conv(3, channels, 3), nn.ReLU())
        self.body = nn.Sequential(*(_LaparBlock(channels) for _ in range(blocks)))
        self.up = nn.Sequential(_conv(channels, channels * scale**2, 3), nn.ReLU(), nn.PixelShuffle(scale))
        self.tail = _Tail(channels, filters)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.up(self.body(self.head(x - self.rgb_mean))))  # type: ignore[no-any-return]


class _LaparBlock(nn.Module):
    """A chain of residual units whose outputs are fused, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in range(_UNITS):
            self.add_module(f"b{i}", _LaparUnit(channels))
        self.reduction = _conv(_UNITS * channels, channels, 3)
        self.res_scale = _Scale(1.0)
        self.x_scale = _Scale(1.0)

    def forward(self, x: Tensor) -> Tensor:
        outputs = joined(numbered(self, "b"), x)
        return self.res_scale(self.reduction(outputs)) + self.x_scale(x)  # type: ignore[no-any-return]


class _LaparUnit(nn.Module):
    """Two convolutions and a shortcut, both with a learned factor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels, 3), nn.ReLU(), _conv(channels, channels, 3))
        self.res_scale = _Scale(1.0)
        self.x_scale = _Scale(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_scale(self.body(x)) + self.x_scale(x)  # type: ignore[no-any-return]


class _Tail(nn.Module):
    """A 3x3 and a 5x5 convolution in parallel, then two convolutions to the weights."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.tail_k3 = _conv(channels, channels, 3)
        self.tail_k5 = _conv(channels, channels, 5)
        self.scale_k3 = _Scale(0.5)
        self.scale_k5 = _Scale(0.5)
        self.fuse = _conv(channels, channels, 3)
        self.w_conv = _conv(channels, filters, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = self.scale_k3(self.tail_k3(x)) + self.scale_k5(self.tail_k5(x))
        return self.w_conv(F.relu(self.fuse(both)))  # type: ignore[no-any-return]


class _Scale(nn.Module):
    """Multiplication by a learned factor."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([value]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Module:
    return weight_norm(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2))  # type: ignore[no-any-return]


def gaussian_dictionary() -> Tensor:
    """Return the 72 filters of LAPAR-A, (72, 5, 5) in float64: Gaussians and differences of Gaussians.

    The paper gives the family. Widths, ratios of the axes, angles and sums were fitted to the table that the authors
    published; the result agrees with it to 2e-16.
    """
    narrow, middle, wide = 0.4, 1.2, 2.0
    large, medium = (
        [_gaussian(sigma, ratio, angle) for ratio in (0.8, 0.6, 0.4) for angle in range(0, -180, -30)]
        for sigma in (wide, middle)
    )
    flat = [_gaussian(wide, 0.2, angle) for angle in range(0, -180, -15)]
    pairs = ((wide, middle), (wide, narrow), (middle, narrow))
    rings = [_surround(_gaussian(outer), _gaussian(inner)) for outer, inner in pairs]
    plain = [_gaussian(wide), *large, *flat, _gaussian(middle), *medium, _gaussian(narrow)]
    return torch.stack([*plain, *rings, *map(_surround, large, medium)])


def _gaussian(sigma: float, ratio: float = 1.0, degrees: float = 0.0) -> Tensor:
    """Return a Gaussian (5, 5) of sum 1, with deviation ``sigma`` along an axis and ``ratio * sigma`` across it."""
    axis = torch.arange(-2.0, 3.0, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = (cos * x + sin * y) / sigma, (cos * y - sin * x) / (ratio * sigma)
    values = torch.exp(-(along**2 + across**2) / 2)
    return values / values.sum()


def _surround(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the difference of two filters, with a positive part of sum 1.4 and a negative part of sum -0.4."""
    difference = outer - inner
    positive, negative = difference.clamp(min=0), difference.clamp(max=0)
    return 1.4 * positive / positive.sum() + 0.4 * negative / negative.sum().abs()
