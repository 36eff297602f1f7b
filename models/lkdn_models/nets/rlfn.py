"""RLFN: "Residual Local Feature Network for Efficient Super-Resolution", Kong et al., CVPR-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from typing import Self

from torch import Tensor, nn

from lkdn_models.nets.blocks import ESA, conv1x1, conv3x3, leaky, shuffled

ESA_WIDTH = 16


class RLFB(nn.Module):
    """Residual local feature block: three convolutions, a shortcut around them, a 1x1, attention.

    The attention has one convolution on its shrunk map, and no activation there.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.c1_r = conv3x3(channels, inner)
        self.c2_r = conv3x3(inner, inner)
        self.c3_r = conv3x3(inner, channels)
        self.c5 = conv1x1(channels, channels)
        self.esa = ESA(channels, ESA_WIDTH, steps=("conv3",))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        out = x
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            out = leaky(conv(out))
        return self.esa(self.c5(out + x))  # type: ignore[no-any-return]


class RLFN(nn.Module):
    """RGB in 0..255, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped; no mean is subtracted.

    ``inner`` is the width between a block's convolutions; None: ``channels``.
    """

    peak = 255.0
    """The top of the range of values."""
    smallest = ESA.SMALLEST
    """The least height and width that it takes."""
    receptive_radius: int | None = None
    """None: by spatial attention a pixel depends on the picture's size."""

    def __init__(self, scale: int, *, channels: int = 52, inner: int | None = None, blocks: int = 6) -> None:
        super().__init__()
        self.scale = scale
        self.conv_1 = conv3x3(3, channels)
        self._block_names = [f"block_{i + 1}" for i in range(blocks)]
        for name in self._block_names:
            self.add_module(name, RLFB(channels, inner or channels))
        self.conv_2 = conv3x3(channels, channels)
        self.upsampler = shuffled(channels, scale)

    @classmethod
    def small(cls, scale: int) -> Self:
        """Return RLFN-S of the paper."""
        return cls(scale, channels=48)

    @classmethod
    def challenge(cls, scale: int = 4) -> Self:
        """Return the winner of NTIRE 2022's efficiency challenge in runtime, published at x4 only."""
        return cls(scale, channels=46, inner=48, blocks=4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.conv_1(x)
        deep = shallow
        for name in self._block_names:
            deep = self.get_submodule(name)(deep)
        return self.upsampler(self.conv_2(deep) + shallow)  # type: ignore[no-any-return]
