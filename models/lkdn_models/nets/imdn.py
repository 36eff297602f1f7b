"""IMDN: "Lightweight Image Super-Resolution with Information Multi-distillation Network", Hui et al., ACM MM 2019.

Written from the paper, with the parameter names of the published checkpoints (each behind ``module.``).
"""

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import CCA, conv1x1, conv3x3, joined, leaky, shuffled


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
        """(N, C, H, W) -> (N, C, H, W)."""
        rest, parts = x, []
        for conv in (self.c1, self.c2, self.c3):
            out = leaky(conv(rest))
            parts.append(out[:, : self._kept])
            rest = out[:, self._kept :]
        parts.append(self.c4(rest))
        return x + self.c5(self.cca(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]


class IMDN(nn.Module):
    """RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped; no mean is subtracted."""

    peak = 1.0
    """The top of the range of values."""
    smallest = 1
    """The least height and width that it takes."""
    receptive_radius: int | None = None
    """None: by contrast-aware attention every pixel depends on the whole picture."""

    def __init__(self, scale: int, *, channels: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.scale = scale
        self.fea_conv = conv3x3(3, channels)
        self._block_names = [f"IMDB{i + 1}" for i in range(blocks)]
        for name in self._block_names:
            self.add_module(name, IMDB(channels))
        self.c = nn.Sequential(conv1x1(blocks * channels, channels))
        self.LR_conv = conv3x3(channels, channels)
        self.upsampler = shuffled(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""
        shallow = self.fea_conv(x)
        deep = leaky(self.c(joined(map(self.get_submodule, self._block_names), shallow)))
        return self.upsampler(self.LR_conv(deep) + shallow)  # type: ignore[no-any-return]
