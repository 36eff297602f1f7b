"""Networks of other colours or value ranges, wrapped to take and return RGB in 0..1.

The conversion of the input and output becomes part of the network, and so of the artefact's graph: the runtime feeds
every network alike.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lkdn_models.nets.bicubic import Bicubic
from lkdn_models.nets.blocks import SRNetwork
from lkdn_models.zoo import Input

# BT.601, studio range over 255: rows Y, Cb, Cr; columns R, G, B.
_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_OFFSET = np.array([16.0, 128.0, 128.0]) / 255


def as_rgb(network: SRNetwork, takes: Input, scale: int) -> SRNetwork:
    """Return ``network`` itself if it takes RGB in 0..1, else a wrapper of it: a network of RGB in 0..1.

    Args:
        network: the network.
        takes: its input.
        scale: enlargement factor.
    """
    match takes:
        case Input.RGB:
            return network
        case Input.RGB_255:
            return InRange(network)
        case Input.LUMA | Input.ENLARGED_LUMA:
            return OnLuma(network, scale, enlarge=takes is Input.ENLARGED_LUMA)


class InRange(SRNetwork):
    """A network of RGB in 0..peak, wrapped."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__(network.scale)
        self.network = network
        self.peak, self.smallest, self.receptive_radius = network.peak, network.smallest, network.receptive_radius

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x * self.peak) / self.peak  # type: ignore[no-any-return]


class OnLuma(SRNetwork):
    """A network of luma, wrapped; MATLAB's bicubic enlarges the colours, as in the networks' papers.

    Args:
        network: network of luma in BT.601's studio range over 255 or, by its ``peak``, in 16..235; (N, 1, H, W) ->
            (N, 1, H', W').
        scale: enlargement factor.
        enlarge: whether the network takes luma that the same bicubic has enlarged.
    """

    def __init__(self, network: SRNetwork, scale: int, *, enlarge: bool) -> None:
        super().__init__(scale)
        self.network = network
        self.enlarge = enlarge
        self.bicubic = Bicubic(3 if enlarge else 2, scale)
        self.smallest = max(Bicubic.SMALLEST, network.smallest)
        radius: int = network.receptive_radius  # type: ignore[assignment]
        # The furthest enlarged pixel that a cell's last one depends on is so many cells away. From its place in that
        # cell, bicubic reaches one cell further, or two from the second half.
        cells, place = divmod(scale - 1 + radius, scale)
        around = cells + (Bicubic.REACH if 2 * place + 1 > scale else Bicubic.REACH - 1)
        self.receptive_radius = around if enlarge else max(radius, Bicubic.REACH)
        self._add("to_ycbcr", _TO_YCBCR, _OFFSET)
        back = np.linalg.inv(_TO_YCBCR)
        self._add("to_rgb", back, -back @ _OFFSET)

    def forward(self, x: Tensor) -> Tensor:
        ycbcr = self._mix(x, "to_ycbcr")
        if self.enlarge:
            ycbcr = self.bicubic(ycbcr)
            colours = ycbcr[:, 1:]
        else:
            colours = self.bicubic(ycbcr[:, 1:])
        peak = self.network.peak
        light = self.network(ycbcr[:, :1]) if peak == 1 else self.network(ycbcr[:, :1] * peak) / peak
        return self._mix(torch.cat([light, colours], dim=1), "to_rgb")

    def _add(self, name: str, matrix: np.ndarray, offset: np.ndarray) -> None:
        """Register a fixed 1x1 convolution, which is not part of a checkpoint."""
        self.register_buffer(f"{name}_weight", torch.from_numpy(matrix).float()[:, :, None, None], persistent=False)
        self.register_buffer(f"{name}_bias", torch.from_numpy(offset).float(), persistent=False)

    def _mix(self, x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias"))
