"""RFDN: "Residual Feature Distillation Network for Lightweight Image Super-Resolution", Liu, Tang, Wu, ECCV-W 2020.

Written from the paper (and what its authors answered in public where paper and weights differ), with the parameter
names of the published checkpoint.
"""

from typing import Self

from torch import Tensor, nn

from lkdn_models.nets.blocks import CCA, ESA, SRB, FeatureDistillation, conv1x1, conv3x3, joined, leaky, shuffled


class RFDB(FeatureDistillation):
    """Residual feature distillation block of the paper's tables, with the attention of IMDN.

    Its reduction is 4, not IMDN's 16: only then does the network have the parameters that the paper prints.
    """

    smallest = 1

    def __init__(self, channels: int) -> None:
        super().__init__(channels, leaky, refine=SRB)
        self.cca = CCA(channels, reduction=4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x + self.cca(super().forward(x))  # type: ignore[no-any-return]


class ChallengeRFDB(FeatureDistillation):
    """The block of E-RFDN, the AIM 2020 entry, with enhanced spatial attention and no shortcut around the block."""

    smallest = ESA.SMALLEST

    def __init__(self, channels: int) -> None:
        super().__init__(channels, leaky, refine=SRB)
        self.esa = ESA(channels, channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.esa(super().forward(x))  # type: ignore[no-any-return]


class RFDN(nn.Module):
    """RGB in 0..255, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped; no mean is subtracted.

    The defaults are the network of the paper's tables. Its weights were never published, so the value range 0..255 is
    that of the challenge entry.
    """

    peak = 255.0
    """The top of the range of values."""
    receptive_radius: int | None = None
    """None: by either attention a pixel depends on the whole picture, or on its size."""

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 48,
        blocks: int = 6,
        block: type[RFDB | ChallengeRFDB] = RFDB,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.smallest = block.smallest  # height and width
        self.fea_conv = conv3x3(3, channels)
        self._block_names = [f"B{i + 1}" for i in range(blocks)]
        for name in self._block_names:
            self.add_module(name, block(channels))
        self.c = nn.Sequential(conv1x1(blocks * channels, channels))
        self.LR_conv = conv3x3(channels, channels)
        self.upsampler = shuffled(channels, scale)

    @classmethod
    def large(cls, scale: int) -> Self:
        """Return RFDN-L of the paper."""
        return cls(scale, channels=52)

    @classmethod
    def challenge(cls, scale: int = 4) -> Self:
        """Return the AIM 2020 entry, later the baseline of NTIRE's efficiency challenges, published at x4 only."""
        return cls(scale, channels=50, blocks=4, block=ChallengeRFDB)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.fea_conv(x)
        deep = leaky(self.c(joined(map(self.get_submodule, self._block_names), shallow)))
        return self.upsampler(self.LR_conv(deep) + shallow)  # type: ignore[no-any-return]
