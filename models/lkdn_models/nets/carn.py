"""CARN and CARN-M: "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network", Ahn, Kang and
Sohn, ECCV 2018.

Parameter names are those of the published checkpoints.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K's training images."""
_UNITS = 3
"""Residual units in a block, and blocks in the network."""


class CARN(SRNetwork):
    """CARN: three blocks of three residual units, each fused by a 1x1 with all earlier ones.

    RGB in 0..1; DIV2K's mean is subtracted and added inside. Zeros are padded in every layer, after it is subtracted.

    Args:
        scale: enlargement factor.
        scales: factors that have an up-sampler; the published network has all of them.
        channels: number of channels.
        groups: groups of the convolutions in a unit; above 1 it is the paper's efficient unit.
        shared: whether the units of a block have the same weights.
    """

    # A unit has two 3x3; entry, up-sampler and exit one each: at x4 the up-sampler's second convolution and the exit
    # together see less than 2.
    receptive_radius = 2 * _UNITS * _UNITS + 3

    def __init__(
        self,
        scale: int,
        *,
        scales: Sequence[int] = (2, 3, 4),
        channels: int = 64,
        groups: int = 1,
        shared: bool = False,
    ) -> None:
        super().__init__(scale, scales)
        self.sub_mean = _mean_shift(-1)
        self.add_mean = _mean_shift(1)
        self.entry = conv3x3(3, channels)
        for i in range(1, _UNITS + 1):
            self.add_module(f"b{i}", _CascadingBlock(channels, groups, shared))
            self.add_module(f"c{i}", _body(conv1x1((i + 1) * channels, channels), nn.ReLU()))
        self.upsample = nn.ModuleDict({f"up{s}": _upsampler(s, channels, groups) for s in scales})
        self.exit = conv3x3(channels, 3)

    @classmethod
    def mobile(cls, scale: int, *, scales: Sequence[int] = (2, 3, 4)) -> Self:
        """Return CARN-M, with efficient units of four groups, shared within a block."""
        return cls(scale, scales=scales, groups=4, shared=True)

    def forward(self, x: Tensor) -> Tensor:
        features = _cascade(self, self.entry(self.sub_mean(x)), [f"b{i}" for i in range(1, _UNITS + 1)])
        return self.add_mean(self.exit(self.upsample[f"up{self.scale}"](features)))  # type: ignore[no-any-return]


def _cascade(module: nn.Module, x: Tensor, units: Sequence[str]) -> Tensor:
    """Run the units; after each, a 1x1 (``c1``, ``c2``, ...) over the input and all units' outputs so far."""
    outputs = [x]
    for i, unit in enumerate(units):
        outputs.append(module.get_submodule(unit)(x))
        x = module.get_submodule(f"c{i + 1}")(torch.cat(outputs, dim=1))
    return x


class _CascadingBlock(nn.Module):
    """A cascade of residual units."""

    def __init__(self, channels: int, groups: int, shared: bool) -> None:
        super().__init__()
        self._units = ["b1"] * _UNITS if shared else [f"b{i + 1}" for i in range(_UNITS)]
        for name in dict.fromkeys(self._units):
            self.add_module(name, _ResidualUnit(channels, groups))
        for i in range(1, _UNITS + 1):
            self.add_module(f"c{i}", _body(conv1x1((i + 1) * channels, channels), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return _cascade(self, x, self._units)


class _ResidualUnit(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 mixes their groups, if there are several."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
        ]
        if groups > 1:
            layers += [nn.ReLU(), conv1x1(channels, channels)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + x)


def _body(*layers: nn.Module) -> nn.Sequential:
    """Return layers in sequence, whose names begin with ``body``."""
    return nn.Sequential(OrderedDict(body=nn.Sequential(*layers)))


def _upsampler(scale: int, channels: int, groups: int) -> nn.Sequential:
    """Return convolution, ReLU and pixel shuffle: once by 2 or 3, twice by 2 for 4."""
    layers: list[nn.Module] = []
    for factor in (2, 2) if scale == 4 else (scale,):
        conv = nn.Conv2d(channels, factor**2 * channels, 3, padding=1, groups=groups)
        layers += [conv, nn.ReLU(), nn.PixelShuffle(factor)]
    return _body(*layers)


def _mean_shift(sign: int) -> nn.Sequential:
    """Return a frozen 1x1 convolution that adds ``sign`` times the mean, as the published files have it."""
    shifter = conv1x1(3, 3)
    shifter.weight = nn.Parameter(torch.eye(3)[:, :, None, None], requires_grad=False)
    shifter.bias = nn.Parameter(sign * torch.tensor(_MEAN), requires_grad=False)
    return nn.Sequential(OrderedDict(shifter=shifter))
