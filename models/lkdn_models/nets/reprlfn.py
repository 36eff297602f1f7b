"""RepRLFN: RLFN with re-parameterised convolutions, from NTIRE's efficiency challenge of 2025.

Written from what the weights tell, with the parameter names of the published checkpoint, which is in the merged form.
"""

from functools import partial

from torch import Tensor, nn

from lkdn_models.nets.blocks import conv3x3, leaky
from lkdn_models.nets.rlfn import RLFB, RLFN


class ActivatedConv(nn.Module):
    """A merged convolution with the activation that its training form has inside, before RLFN's own.

    Two of them make a slope of 0.05 ** 2 for negative values; with ReLU in their place Set5 falls from 32.01 to
    31.72 dB.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.rbr_reparam = conv3x3(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return leaky(self.rbr_reparam(x))


class RepRLFN(RLFN):
    """RepRLFN, for RGB in 0..1; no mean is subtracted. By its attention a pixel depends on the picture's size."""

    peak = 1.0

    def __init__(self, scale: int = 4, *, channels: int = 48, blocks: int = 4) -> None:
        block = partial(RLFB, conv=ActivatedConv, esa_width=15)
        super().__init__(scale, channels=channels, blocks=blocks, block=block)
