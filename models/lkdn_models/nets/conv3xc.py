"""Conv3XC, the re-parameterised convolution of SPAN and of its descendants, with their parameter names."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.fuse.branches import Merged, Pad
from lkdn_models.nets.blocks import Layer, conv3x3
from lkdn_models.nets.shapes import Shapes
from lkdn_models.reparameterised import layers


class MergedConv3XC(nn.Module):
    """A zero-padded 3x3 convolution, (N, in, H, W) -> (N, out, H, W): what a Conv3XC becomes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.eval_conv = conv3x3(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.eval_conv(x)  # type: ignore[no-any-return]


class Conv3XC(MergedConv3XC):
    """The training form: a 1x1, a 3x3 and a 1x1 convolution in a row, beside one 1x1.

    It is the *input* that is padded with zeros, and none of the three pads what it gets, so that all of them merge
    exactly, at the border too. The merged convolution in the same file is not read: trainers update it at certain times
    only.
    """

    def __init__(self, in_channels: int, out_channels: int, gain: int) -> None:
        super().__init__(in_channels, out_channels)
        self.sk = nn.Conv2d(in_channels, out_channels, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, in_channels * gain, 1),
            nn.Conv2d(in_channels * gain, out_channels * gain, 3),
            nn.Conv2d(out_channels * gain, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        three = (Pad((1, 1)), *layers(self, "conv"))
        return {"eval_conv": Merged(self.sk.in_channels, (three, layers(self, "sk")))}

    def plain(self) -> MergedConv3XC:
        return MergedConv3XC(self.sk.in_channels, self.sk.out_channels)


def conv3xc(gain: int) -> Layer:
    """Return the constructor of the training form with branches ``gain`` times as wide, or of the merged form for 0."""
    return partial(Conv3XC, gain=gain) if gain else MergedConv3XC


def gain_of(shapes: Shapes, name: str) -> int:
    """Return the ``gain`` of the Conv3XC with this name in a state dict, 0 if it is merged."""
    widened = shapes.get(f"{name}.conv.0.weight")
    return widened[0] // widened[1] if widened else 0
