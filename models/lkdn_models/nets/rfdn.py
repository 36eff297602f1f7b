"""RFDN: "Residual Feature Distillation Network for Lightweight Image Super-Resolution", Liu, Tang, Wu, ECCV-W 2020.

Written from the paper (and what its authors answered in public where paper and weights differ), with the parameter
names of the published checkpoint.
"""

from typing import Self

from torch import Tensor

from lkdn_models.nets.blocks import CCA, ESA, SRB, FeatureDistillation, leaky
from lkdn_models.nets.imdn import IMDN


class RFDB(FeatureDistillation):
    """Residual feature distillation block of the paper's tables, with the attention of IMDN.

    Its reduction is 4, not IMDN's 16: only then does the network have the parameters that the paper prints.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, leaky, refine=SRB)
        self.cca = CCA(channels, reduction=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cca(super().forward(x))  # type: ignore[no-any-return]


class ChallengeRFDB(FeatureDistillation):
    """The block of E-RFDN, the AIM 2020 entry, with enhanced spatial attention and no shortcut around the block."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, leaky, refine=SRB)
        self.esa = ESA(channels, channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.esa(super().forward(x))  # type: ignore[no-any-return]


class RFDN(IMDN):
    """RFDN, for RGB in 0..255; no mean is subtracted.

    The defaults are the network of the paper's tables. Its weights were never published, so the value range 0..255 is
    that of the challenge entry. By either attention a pixel depends on the whole picture, or on its size.
    """

    peak = 255.0

    def __init__(
        self, scale: int, *, channels: int = 48, blocks: int = 6, block: type[RFDB | ChallengeRFDB] = RFDB
    ) -> None:
        super().__init__(scale, channels=channels, blocks=blocks, block=block, prefix="B")
        self.smallest = ESA.SMALLEST if block is ChallengeRFDB else 1

    @classmethod
    def large(cls, scale: int) -> Self:
        """Return RFDN-L of the paper."""
        return cls(scale, channels=52)

    @classmethod
    def challenge(cls, scale: int = 4) -> Self:
        """Return the AIM 2020 entry, later the baseline of NTIRE's efficiency challenges, published at x4 only."""
        return cls(scale, channels=50, blocks=4, block=ChallengeRFDB)
