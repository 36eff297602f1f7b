"""IMDN: "Lightweight Image Super-Resolution with Information Multi-distillation Network", Hui et al., ACM MM 2019.

Written from the paper, with the parameter names of the published checkpoints (each behind ``module.``).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import CCA, SRNetwork, add_numbered, conv1x1, conv3x3, joined, leaky, numbered, shuffled


class IMDB(nn.Module):
    """Information multi-distillation block: each step keeps a quarter of the channels and refines the rest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._kept = kept = channels // 4
        self.c1 = conv3x3(channels, channels)
        self.c2 = conv3x3(channels - kept, channels)
        self.c3 = conv3x3(channels - kept, channels)
        self.c4 = conv3x3(channels - kept, kept)
        self.cca = CCA(4 * kept)
        self.c5 = conv1x1(4 * kept, channels)

    def forward(self, x: Tensor) -> Tensor:
        rest, parts = x, []
        for conv in (self.c1, self.c2, self.c3):
            out = leaky(conv(rest))
            parts.append(out[:, : self._kept])
            rest = out[:, self._kept :]
        parts.append(self.c4(rest))
        return x + self.c5(self.cca(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]


class IMDN(SRNetwork):
    """IMDN, for RGB in 0..1; no mean is subtracted. By its attention every pixel depends on the whole picture.

    ``block`` and ``prefix``, which begins the blocks' names, are what later networks of this plan change.
    """

    def __init__(
        self,
        scale: int,
        *,
        channels: int = 64,
        blocks: int = 6,
        block: Callable[[int], nn.Module] = IMDB,
        prefix: str = "IMDB",
    ) -> None:
        super().__init__(scale)
        self.fea_conv = conv3x3(3, channels)
        self._prefix = prefix
        add_numbered(self, prefix, (block(channels) for _ in range(blocks)))
        self.c = nn.Sequential(conv1x1(blocks * channels, channels))
        self.LR_conv = conv3x3(channels, channels)
        self.upsampler = shuffled(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.fea_conv(x)
        deep = leaky(self.c(joined(numbered(self, self._prefix), shallow)))
        return self.upsampler(self.LR_conv(deep) + shallow)  # type: ignore[no-any-return]
