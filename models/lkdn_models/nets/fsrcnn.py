"""FSRCNN: "Accelerating the Super-Resolution Convolutional Neural Network", Dong et al., ECCV 2016."""

import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_models.nets.blocks import SRNetwork

_KERNEL = 9
"""Side of the deconvolution's kernel."""


class FSRCNN(SRNetwork):
    """FSRCNN(d, s, m) for luma: features, shrinking, ``m`` mappings, expanding, deconvolution.

    The image's edge is repeated in every layer, as in the authors' demo; they trained without padding. Only the
    deconvolution's stride depends on the scale.
    """

    def __init__(
        self, scale: int, *, channels: int = 56, shrunk_channels: int = 12, mappings: int = 4, features_kernel: int = 5
    ) -> None:
        super().__init__(scale)
        # From the cell's last pixel the deconvolution sees furthest.
        self.receptive_radius = features_kernel // 2 + mappings + (scale - 1 + _KERNEL // 2) // scale
        wide, narrow = channels, shrunk_channels
        self.features = _conv(1, wide, features_kernel)
        self.shrink = _conv(wide, narrow, 1)
        self.mappings = nn.Sequential(*(_conv(narrow, narrow, 3) for _ in range(mappings)))
        self.expand = _conv(narrow, wide, 1)
        # Weight k of input i goes to output scale * i + k - 4. The added stride takes off what the repeated edge adds.
        self.deconv = nn.ConvTranspose2d(
            wide, 1, _KERNEL, stride=scale, padding=_KERNEL // 2 + scale, output_padding=scale - 1
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.mappings(self.shrink(self.features(x))))
        return self.deconv(F.pad(x, (1, 1, 1, 1), mode="replicate"))  # type: ignore[no-any-return]


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Return a convolution and a PReLU with one slope per channel."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="replicate"),
        nn.PReLU(out_channels),
    )
