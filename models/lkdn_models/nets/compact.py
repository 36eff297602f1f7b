"""Compact (SRVGGNetCompact): the small network of Real-ESRGAN, Wang et al., ICCV-W 2021, and of many community models.

Written from what the weights tell, with the parameter names of the published checkpoints.
"""

from typing import Any

from torch import Tensor, nn

from lkdn_models.nets.blocks import PixelCopies, SRNetwork, conv3x3
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


class Compact(SRNetwork):
    """Compact, for RGB in 0..1: a row of 3x3 convolutions, each but the last with PReLU behind it.

    Its result is added to the picture, enlarged by nearest neighbour.

    Args:
        scale: enlargement factor.
        channels: number of features.
        depth: number of convolutions between the first and the last.
    """

    def __init__(self, scale: int, *, channels: int = 64, depth: int = 16) -> None:
        super().__init__(scale)
        self.receptive_radius = depth + 2
        layers: list[nn.Module] = [conv3x3(3, channels), nn.PReLU(channels)]
        for _ in range(depth):
            layers += [conv3x3(channels, channels), nn.PReLU(channels)]
        self.body = nn.Sequential(*layers, conv3x3(channels, 3 * scale**2))
        self.copies = PixelCopies(3, scale)
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        last = count_blocks(shapes, r"body\.(\d+)\.") - 1
        return {
            "scale": shuffled_scale(shapes[f"body.{last}.weight"][0]),
            "channels": shapes["body.0.weight"][0],
            "depth": last // 2 - 1,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.body(x) + self.copies(x))  # type: ignore[no-any-return]
