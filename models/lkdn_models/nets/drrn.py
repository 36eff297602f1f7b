"""DRRN: "Image Super-Resolution via Deep Recursive Residual Network", Tai, Yang and Liu, CVPR 2017."""

from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv3x3


class DRRN(SRNetwork):
    """DRRN-B1U25: one recursive block of 25 residual units that share two convolutions, for enlarged luma.

    One network for every scale. Zeros are padded in every layer; every convolution comes after its activation, the
    first too.

    Its authors put a batch normalisation with weights of its own before every activation. The counts in the papers
    leave them out, and so does this class without ``batch_norm``.
    """

    def __init__(self, *, units: int = 25, channels: int = 128, batch_norm: bool = False) -> None:
        super().__init__()
        self.receptive_radius = 2 + 2 * units
        self.input = conv3x3(1, channels)
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.output = conv3x3(channels, 1)
        self.input_act = pre_activation(1, batch_norm)
        self.acts1 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.acts2 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.output_act = pre_activation(channels, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        state = start = self.input(self.input_act(x))
        for act1, act2 in zip(self.acts1, self.acts2, strict=True):
            # The shortcut is from the block's start, not from the unit before.
            state = start + self.conv2(act2(self.conv1(act1(state))))
        return x + self.output(self.output_act(state))  # type: ignore[no-any-return]


def pre_activation(channels: int, batch_norm: bool) -> nn.Module:
    """Return the layers before a convolution: a ReLU, after a batch normalisation if there is one."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) if batch_norm else nn.ReLU()
