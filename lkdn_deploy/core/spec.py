"""The description of an LKDN network that the reference model, the fuser and the exporter share."""

from dataclasses import dataclass, replace
from enum import StrEnum

from lkdn_deploy.core.errors import UsageError

MAX_SCALE = 8
"""Far above any published network, as the other bounds: they bound what a hostile file can make us allocate."""


class Block(StrEnum):
    """The convolution used for refinement inside a block (LKDN paper).

    All are a pointwise (1x1, no bias) and a depthwise 3x3 convolution; they differ in their shortcuts.
    """

    BSB = "bsb"
    """``dw(pw(x))``"""
    BSRB = "bsrb"
    """``dw(pw(x)) + x``. The shortcut has no weights, so a state dict does not tell it from BSB."""
    RBSB = "rbsb"
    """``y = pw(x) + x``, ``dw(y) + y + dw1x1(y)``: the re-parameterised block, fusible into a BSB."""


class Upsampler(StrEnum):
    """The layer that maps features to the ``3 * scale**2`` channels of the pixel shuffle."""

    PLAIN = "plain"
    """One 3x3 convolution."""
    REP = "rep"
    """Three parallel branches, fusible into one 3x3 convolution."""


@dataclass(frozen=True, slots=True)
class LkdnSpec:
    """An LKDN network, in training form or fused.

    Raises:
        UsageError: if a value is out of range, naming it.
    """

    scale: int
    blocks: int
    channels: int
    attention_channels: int
    block: Block = Block.BSB
    upsampler: Upsampler = Upsampler.PLAIN
    input_copies: int = 4

    def __post_init__(self) -> None:
        for name, low, high in (
            ("scale", 1, MAX_SCALE),
            ("blocks", 1, 256),
            ("channels", 2, 4096),
            ("attention_channels", 1, 4096),
            ("input_copies", 1, 64),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"{name} must be between {low} and {high}, got {value}"
                raise UsageError(msg)
        if self.channels % 2:
            msg = f"channels must be even (half of them are distilled in each step), got {self.channels}"
            raise UsageError(msg)

    @property
    def receptive_radius(self) -> int:
        """Distance in LR pixels beyond which an input pixel cannot change an output pixel.

        A block adds 4 (four 3x3), 2 (5x5) and 6 (5x5, dilation 3); the first, the last and the up-sampling
        convolution add 1 each.
        """
        return 12 * self.blocks + 3

    @property
    def fused(self) -> bool:
        """Whether there is no branch left to fuse."""
        return self.block is not Block.RBSB and self.upsampler is Upsampler.PLAIN

    @property
    def deployed(self) -> "LkdnSpec":
        """The network with its branches fused, as the paper counts it: the copies of the input are still there."""
        block = Block.BSB if self.block is Block.RBSB else self.block
        return replace(self, block=block, upsampler=Upsampler.PLAIN)

    @classmethod
    def lkdn(cls, scale: int) -> "LkdnSpec":
        """LKDN of the paper: 8 blocks, 56 channels, trained with BSB."""
        return cls(scale=scale, blocks=8, channels=56, attention_channels=56)

    @classmethod
    def lkdn_s(cls, scale: int) -> "LkdnSpec":
        """LKDN-S of the paper in its training form: 5 blocks, 42 channels, RBSB, re-parameterised up-sampler."""
        return cls(
            scale=scale,
            blocks=5,
            channels=42,
            attention_channels=42,
            block=Block.RBSB,
            upsampler=Upsampler.REP,
        )
