"""ABPN: "Anchor-based Plain Net for Mobile Image Super-Resolution", Du et al., CVPR-W 2021.

Written from the paper, with the parameter names of the checkpoints that ETDS's authors published.
"""

from typing import Any

from torch import Tensor, nn

from lkdn_models.nets.blocks import PixelCopies, SRNetwork, conv3x3
from lkdn_models.nets.shapes import Shapes, count_blocks, shuffled_scale


class ABPN(SRNetwork):
    """ABPN, for RGB in 0..1: 3x3 convolutions with ReLU behind all but the last.

    Its result is added to the "anchor", the picture enlarged by nearest neighbour, before the pixel shuffle.

    Args:
        scale: enlargement factor.
        channels: number of features.
        depth: number of convolutions between the first and those of the enlarged picture.
    """

    def __init__(self, scale: int, *, channels: int = 40, depth: int = 6) -> None:
        super().__init__(scale)
        self.receptive_radius = depth + 3
        enlarged = 3 * scale**2
        pairs = (nn.Sequential(conv3x3(channels, channels), nn.ReLU()) for _ in range(depth))
        self.backbone = nn.Sequential(
            *(conv3x3(3, channels), nn.ReLU(), *pairs),
            *(conv3x3(channels, enlarged), nn.ReLU(), conv3x3(enlarged, enlarged)),
        )
        self.copies = PixelCopies(3, scale)
        self.shuffle = nn.PixelShuffle(scale)

    @classmethod
    def settings_of(cls, shapes: Shapes) -> dict[str, Any]:
        depth = count_blocks(shapes, r"backbone\.(\d+)\.0\.")
        return {
            "scale": shuffled_scale(shapes[f"backbone.{depth + 4}.weight"][0]),
            "channels": shapes["backbone.0.weight"][0],
            "depth": depth,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.backbone(x) + self.copies(x))  # type: ignore[no-any-return]
