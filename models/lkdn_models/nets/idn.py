"""IDN: "Fast and Accurate Single Image Super-Resolution via Information Distillation Network", Hui et al., CVPR 2018.

Written from the paper, with the names of the layers in the published Caffe models (``tools/convert_idn.py`` reads
these; a layer's weights and biases are ``NAME.weight`` and ``NAME.bias``).
"""

from typing import Self

import torch
from torch import Tensor, nn

from lkdn_models.nets.bicubic import Bicubic
from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3, leaky, shuffled

CHANNELS = 64
KEPT = 16
"""Channels after an enhancement unit's first half that skip its second half."""
UNIT = (
    (CHANNELS, 48, 1),
    (48, 32, 4),
    (32, CHANNELS, 1),
    (CHANNELS - KEPT, 64, 1),
    (64, 48, 4),
    (48, CHANNELS + KEPT, 1),
)
"""Input channels, output channels and groups of an enhancement unit's six 3x3 convolutions."""
STAGES = range(3, 7)
"""The distillation blocks' numbers in the names of their layers."""
KERNEL = 17


class IDN(SRNetwork):
    """IDN, for luma; MATLAB's bicubic enlargement is part of the network.

    So it is in the graph in which the published weights were trained. There the transposed convolution leaves out the
    ``scale - 1`` first rows and columns of the picture; here it covers them too.

    With ``colours`` it is the network whose Multi-Adds later papers print: RGB in 0..1, and a 3x3 convolution with
    pixel shuffle instead of the transposed one. It is reconstructed from those figures and was never published.
    """

    smallest = Bicubic.SMALLEST

    def __init__(self, scale: int, *, colours: bool = False) -> None:
        super().__init__(scale)
        inputs = 3 if colours else 1
        self.conv1 = conv3x3(inputs, CHANNELS)
        self.conv2 = conv3x3(CHANNELS, CHANNELS)
        for block, stage in enumerate(STAGES, 1):
            for layer, (wide, narrow, groups) in enumerate(UNIT, 1):
                self.add_module(f"conv{stage}_{layer}", nn.Conv2d(wide, narrow, 3, padding=1, groups=groups))
            self.add_module(f"down{block}", conv1x1(CHANNELS + KEPT, CHANNELS))
        # Caffe pads by 8, so that the first sample is at the first input pixel: scale - 1 pixels into the picture.
        padding = KERNEL // 2 - (scale - 1)
        self.upsample: nn.Module = (
            shuffled(CHANNELS, scale)
            if colours
            else nn.ConvTranspose2d(CHANNELS, 1, KERNEL, stride=scale, padding=padding)
        )
        self.bicubic = Bicubic(inputs, scale)
        # Upwards and to the left, a sample's kernel reaches further by the pixels of its shift.
        tail = 1 if colours else (KERNEL // 2 + scale - 1) // scale
        self.receptive_radius = 2 + len(UNIT) * len(STAGES) + tail

    @classmethod
    def rgb(cls, scale: int) -> Self:
        """Return the reconstructed network for RGB."""
        return cls(scale, colours=True)

    def forward(self, x: Tensor) -> Tensor:
        out = leaky(self.conv2(leaky(self.conv1(x))))
        for block, stage in enumerate(STAGES, 1):
            out = leaky(self.get_submodule(f"down{block}")(self._enhance(out, stage)))
        height, width = self.scale * x.shape[2], self.scale * x.shape[3]
        # Beyond the last pixel's own samples the transposed convolution has more.
        return self.bicubic(x) + self.upsample(out)[:, :, :height, :width]  # type: ignore[no-any-return]

    def _enhance(self, x: Tensor, stage: int) -> Tensor:
        """Add a unit's short path, joined to its input, and its long path, (N, 64, H, W) -> (N, 80, H, W)."""
        short = self._convolve(x, stage, (1, 2, 3))
        long = self._convolve(short[:, KEPT:], stage, (4, 5, 6))
        return torch.cat([x, short[:, :KEPT]], dim=1) + long

    def _convolve(self, x: Tensor, stage: int, layers: tuple[int, ...]) -> Tensor:
        for layer in layers:
            x = leaky(self.get_submodule(f"conv{stage}_{layer}")(x))
        return x
