"""DRRN: "Image Super-Resolution via Deep Recursive Residual Network", Tai, Yang and Liu, CVPR 2017."""

from torch import Tensor, nn

from lkdn_models.nets.blocks import conv3x3


class DRRN(nn.Module):
    """DRRN-B1U25: one recursive block of 25 residual units that share two convolutions.

    Luma in 0..1, that is 16/255..235/255 (BT.601 studio range over 255), enlarged beforehand to the output's size by
    MATLAB's bicubic; not clipped. (N, 1, H, W) -> (N, 1, H, W). One network for every scale. Zeros are padded in every
    layer; every convolution comes after its activation, the first too.

    Its authors put a batch normalisation with weights of its own before every activation. The counts in the papers
    leave them out, and so does this class without ``batch_norm``.
    """

    scale = 1
    """The input is enlarged already."""
    peak = 1.0
    smallest = 1

    def __init__(self, *, units: int = 25, channels: int = 128, batch_norm: bool = False) -> None:
        super().__init__()
        self.input = conv3x3(1, channels)
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.output = conv3x3(channels, 1)
        self.input_act = pre_activation(1, batch_norm)
        self.acts1 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.acts2 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.output_act = pre_activation(channels, batch_norm)

    @property
    def receptive_radius(self) -> int:
        """Distance in pixels of the enlarged image beyond which one input pixel cannot change an output pixel."""
        return 2 + 2 * len(self.acts1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, H, W)."""
        state = start = self.input(self.input_act(x))
        for act1, act2 in zip(self.acts1, self.acts2, strict=True):
            # The shortcut is from the block's start, not from the unit before.
            state = start + self.conv2(act2(self.conv1(act1(state))))
        return x + self.output(self.output_act(state))  # type: ignore[no-any-return]


def pre_activation(channels: int, batch_norm: bool) -> nn.Module:
    """Return the layers before a convolution: a ReLU, after a batch normalisation if there is one."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) if batch_norm else nn.ReLU()
