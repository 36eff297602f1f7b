"""VDSR: "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", Kim et al., CVPR 2016.

``tools/convert_vdsr.py`` converts the authors' published weights.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv3x3


class VDSR(SRNetwork):
    """VDSR: twenty 3x3 convolutions that predict the detail enlarged luma lacks. One network for every scale.

    Zeros are padded in every layer.
    """

    def __init__(self, *, depth: int = 20, channels: int = 64) -> None:
        super().__init__()
        self.receptive_radius = depth
        widths = [1, *[channels] * (depth - 1), 1]
        self.layers = nn.ModuleList(conv3x3(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        detail = x
        for layer in self.layers[:-1]:
            detail = F.relu(layer(detail))
        return x + self.layers[-1](detail)  # type: ignore[no-any-return]
