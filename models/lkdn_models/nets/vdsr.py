"""VDSR: "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", Kim et al., CVPR 2016.

``tools/convert_vdsr.py`` converts the authors' published weights.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import conv3x3


class VDSR(nn.Module):
    """VDSR: twenty 3x3 convolutions that predict the detail bicubic interpolation lacks. One network for every scale.

    Luma in 0..1, that is 16/255..235/255 (BT.601 studio range over 255), enlarged beforehand to the output's size by
    MATLAB's bicubic; not clipped. (N, 1, H, W) -> (N, 1, H, W). Zeros are padded in every layer.
    """

    scale = 1
    """The input is enlarged already."""
    peak = 1.0
    smallest = 1

    def __init__(self, *, depth: int = 20, channels: int = 64) -> None:
        super().__init__()
        widths = [1, *[channels] * (depth - 1), 1]
        self.layers = nn.ModuleList(conv3x3(a, b) for a, b in pairwise(widths))

    @property
    def receptive_radius(self) -> int:
        """Distance in pixels of the enlarged image beyond which one input pixel cannot change an output pixel."""
        return len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W)."""
        detail = x
        for layer in self.layers[:-1]:
            detail = F.relu(layer(detail))
        return x + self.layers[-1](detail)  # type: ignore[no-any-return]
