"""LapSRN: "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", Lai et al., CVPR 2017.

Parameters are named as in the published files, with a dot after the level.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.core.errors import UsageError
from lkdn_models.nets.blocks import conv3x3

_SLOPE = 0.2
"""Negative slope of the leaky ReLU."""


class LapSRN(nn.Module):
    """LapSRN: a pyramid whose levels double the image and add predicted detail. Scale 2 or 4.

    Luma in 0..1, that is 16/255..235/255 (BT.601 studio range over 255), at low resolution; not clipped.
    (N, 1, H, W) -> (N, 1, scale * H, scale * W). Zeros are padded in every layer.

    A level has 10 convolutions and a 3x3 up-convolution, as in the published weights; the paper's text has a 4x4.

    Raises:
        UsageError: if the scale is neither 2 nor 4.
    """

    peak = 1.0
    smallest = 1

    def __init__(self, scale: int, *, depth: int = 10, channels: int = 64, up_kernel: int = 3) -> None:
        super().__init__()
        if scale not in (2, 4):
            msg = f"LapSRN has no x{scale}"
            raise UsageError(msg, "it has x2, x4")
        self.scale = scale
        self.depth = depth
        self.input_conv = conv3x3(1, channels)
        # The published names count down: level1 has the full size.
        self._level_names = [f"level{i}" for i in range(scale.bit_length() - 1, 0, -1)]
        for name in self._level_names:
            self.add_module(name, _Level(depth, channels, up_kernel))

    @property
    def receptive_radius(self) -> int:
        """Distance in LR pixels beyond which an input pixel cannot change an output pixel."""
        low, high = 0, self.scale - 1  # the input interval that an output interval sees, level after level
        low, high = low - 1, high + 1
        for name in reversed(self._level_names):
            upconv: nn.ConvTranspose2d = self.get_submodule(name).upconv  # type: ignore[assignment]
            kernel, padding = upconv.kernel_size[0], int(upconv.padding[0])
            low, high = -((kernel - 1 - padding - low) // 2), (high + padding) // 2
            low, high = low - self.depth, high + self.depth
        return max(-low, high) + 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, scale * H, scale * W)."""
        return self.pyramid(x)[-1]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Return the images of all levels, (N, 1, 2H, 2W) first; the paper's loss is on each."""
        features, images = F.leaky_relu(self.input_conv(x), _SLOPE), []
        for name in self._level_names:
            features, x = self.get_submodule(name)(features, x)
            images.append(x)
        return images


class _Level(nn.Module):
    """A level that doubles features and image."""

    def __init__(self, depth: int, channels: int, up_kernel: int) -> None:
        super().__init__()
        self._conv_names = [f"conv{i + 1}" for i in range(depth)]
        for name in self._conv_names:
            self.add_module(name, conv3x3(channels, channels))
        self.upconv = nn.ConvTranspose2d(channels, channels, up_kernel, stride=2, padding=(up_kernel - 2) // 2)
        # An odd kernel gives a row and a column too many; the last are left out.
        self._odd = up_kernel % 2 == 1
        self.residual_conv = conv3x3(channels, 1)
        self.img_up = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        # It starts as bilinear interpolation and is trained with the rest.
        bilinear = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.img_up.weight = nn.Parameter(torch.outer(bilinear, bilinear)[None, None])

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W), (N, 1, H, W) -> (N, C, 2H, 2W), (N, 1, 2H, 2W)."""
        for name in self._conv_names:
            features = F.leaky_relu(self.get_submodule(name)(features), _SLOPE)
        features = F.leaky_relu(self.upconv(features), _SLOPE)
        if self._odd:
            features = features[..., :-1, :-1]
        return features, self.img_up(image) + self.residual_conv(features)
