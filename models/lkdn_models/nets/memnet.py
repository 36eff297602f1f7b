"""MemNet: "MemNet: A Persistent Memory Network for Image Restoration", Tai, Yang, Liu and Xu, ICCV 2017."""

import torch
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork, conv1x1, conv3x3
from lkdn_models.nets.drrn import pre_activation


class MemNet(SRNetwork):
    """MemNet-M6R6: six memory blocks of six recursions, with an output after each block (paper, figures 2 and 3).

    It takes enlarged luma; one network for every scale. Padding, activations and ``batch_norm`` are as in DRRN. The
    papers' counts of parameters also leave out ``mix``.
    """

    def __init__(self, *, blocks: int = 6, units: int = 6, channels: int = 64, batch_norm: bool = False) -> None:
        super().__init__()
        self.extract_act = pre_activation(1, batch_norm)
        self.extract = conv3x3(1, channels)
        self.blocks = nn.ModuleList(_MemoryBlock(i + 1, units, channels, batch_norm) for i in range(blocks))
        self.output_acts = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(blocks))
        self.reconstruct = conv3x3(channels, 1)
        self.mix = nn.Parameter(torch.full((blocks,), 1 / blocks))
        self.receptive_radius = 2 + 2 * units * blocks

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of ``outputs`` weighted by ``mix``, (N, 1, H, W) -> (N, 1, H, W).

        All outputs share one convolution, so it is applied once, to the weighted sum of its inputs.
        """
        first, *others = (weight * features for weight, features in zip(self.mix, self._activated(x), strict=True))
        mixed, total = sum(others, start=first), self.mix.sum()
        # The convolution adds its bias once, where every output had it.
        bias = (total - 1) * self.reconstruct.bias  # type: ignore[operator]
        return self.reconstruct(mixed) + bias + total * x  # type: ignore[no-any-return]

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Return the image (N, 1, H, W) after each block; the paper's loss is on each, and on their mix."""
        return [x + self.reconstruct(features) for features in self._activated(x)]

    def _activated(self, x: Tensor) -> list[Tensor]:
        """Return the blocks' outputs, (N, C, H, W) each, before the reconstruction."""
        memories = [self.extract(self.extract_act(x))]
        for block in self.blocks:
            memories.append(block(memories))
        return [act(memory) for act, memory in zip(self.output_acts, memories[1:], strict=True)]


class _MemoryBlock(nn.Module):
    """Recursions that share two convolutions, and a gate: a 1x1 on all their states and all earlier memories."""

    def __init__(self, memories: int, units: int, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.gate = conv1x1((units + memories) * channels, channels)
        self.acts1 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.acts2 = nn.ModuleList(pre_activation(channels, batch_norm) for _ in range(units))
        self.gate_act = pre_activation((units + memories) * channels, batch_norm)

    def forward(self, memories: list[Tensor]) -> Tensor:
        """Map the features and the outputs of all earlier blocks, (N, C, H, W) each, to (N, C, H, W)."""
        state, states = memories[-1], []
        for act1, act2 in zip(self.acts1, self.acts2, strict=True):
            state = state + self.conv2(act2(self.conv1(act1(state))))
            states.append(state)
        return self.gate(self.gate_act(torch.cat([*states, *memories], dim=1)))  # type: ignore[no-any-return]
