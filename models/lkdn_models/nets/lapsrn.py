"""LapSRN: "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", Lai et al., CVPR 2017.

Parameters are named as in the published files, with a dot after the level.
"""

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, add_numbered, conv3x3, leaky, numbered

_SLOPE = 0.2
"""Negative slope of the leaky ReLU."""


class LapSRN(SRNetwork):
    """LapSRN for luma: a pyramid whose levels double the image and add predicted detail. Scale 2 or 4.

    Zeros are padded in every layer. A level has 10 convolutions and a 3x3 up-convolution, as in the published weights;
    the paper's text has a 4x4.
    """

    def __init__(self, scale: int, *, depth: int = 10, channels: int = 64, up_kernel: int = 3) -> None:
        super().__init__(scale, (2, 4))
        self.input_conv = conv3x3(1, channels)
        levels, padding = scale // 2, _padding(up_kernel)
        add_numbered(self, "level", (_Level(depth, channels, up_kernel) for _ in range(levels)))
        low, high = -1, scale  # the input interval that a cell of the output sees, from the last level to the first
        for _ in range(levels):
            low, high = -((up_kernel - 1 - padding - low) // 2) - depth, (high + padding) // 2 + depth
        self.receptive_radius = max(-low, high) + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.pyramid(x)[-1]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the images of all levels, (N, 1, 2H, 2W) first; the paper's loss is on each."""
        features, images = leaky(self.input_conv(x), _SLOPE), []
        for level in reversed(numbered(self, "level")):  # the published names count down: level1 has the full size
            features, x = level(features, x)
            images.append(x)
        return images


class _Level(nn.Module):
    """A level that doubles features (N, C, H, W) and image (N, 1, H, W)."""

    def __init__(self, depth: int, channels: int, up_kernel: int) -> None:
        super().__init__()
        add_numbered(self, "conv", (conv3x3(channels, channels) for _ in range(depth)))
        self.upconv = nn.ConvTranspose2d(channels, channels, up_kernel, stride=2, padding=_padding(up_kernel))
        # An odd kernel gives a row and a column too many; the last are left out.
        self._odd = up_kernel % 2 == 1
        self.residual_conv = conv3x3(channels, 1)
        self.img_up = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        # It starts as bilinear interpolation and is trained with the rest.
        bilinear = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.img_up.weight = nn.Parameter(torch.outer(bilinear, bilinear)[None, None])

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        for conv in numbered(self, "conv"):
            features = leaky(conv(features), _SLOPE)
        features = leaky(self.upconv(features), _SLOPE)
        if self._odd:
            features = features[..., :-1, :-1]
        return features, self.img_up(image) + self.residual_conv(features)


def _padding(up_kernel: int) -> int:
    return (up_kernel - 2) // 2
