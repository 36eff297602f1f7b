"""RLFN: "Residual Local Feature Network for Efficient Super-Resolution", Kong et al., CVPR-W 2022.

Written from the paper, with the parameter names of the published checkpoints.
"""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn

from lkdn_models.nets.blocks import ESA, Layer, SRNetwork, add_numbered, conv1x1, conv3x3, leaky, numbered, shuffled

ESA_WIDTH = 16


class RLFB(nn.Module):
    """Residual local feature block: three convolutions, a shortcut around them, a 1x1, attention.

    The attention has one convolution on its shrunk map, and no activation there.
    """

    def __init__(self, channels: int, inner: int, *, conv: Layer = conv3x3, esa_width: int = ESA_WIDTH) -> None:
        super().__init__()
        self.c1_r = conv(channels, inner)
        self.c2_r = conv(inner, inner)
        self.c3_r = conv(inner, channels)
        self.c5 = conv1x1(channels, channels)
        self.esa = ESA(channels, esa_width, steps=("conv3",))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv in (self.c1_r, self.c2_r, self.c3_r):
            out = leaky(conv(out))
        return self.esa(self.c5(out + x))  # type: ignore[no-any-return]


class RLFN(SRNetwork):
    """RLFN, for RGB in 0..255; no mean is subtracted. By its attention a pixel depends on the picture's size.

    Args:
        scale: enlargement factor.
        channels: number of features.
        inner: width between a block's convolutions; None: ``channels``.
        blocks: number of blocks.
        block: their constructor, which takes ``channels`` and ``inner``.
    """

    peak = 255.0
    smallest = ESA.SMALLEST

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 52,
        inner: int | None = None,
        blocks: int = 6,
        block: Callable[[int, int], nn.Module] = RLFB,
    ) -> None:
        super().__init__(scale)
        self.conv_1 = conv3x3(3, channels)
        add_numbered(self, "block_", (block(channels, inner or channels) for _ in range(blocks)))
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
        shallow = self.conv_1(x)
        deep = shallow
        for block in numbered(self, "block_"):
            deep = block(deep)
        return self.upsampler(self.conv_2(deep) + shallow)  # type: ignore[no-any-return]
