"""FSRCNN: "Accelerating the Super-Resolution Convolutional Neural Network", Dong et al., ECCV 2016."""

import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 9
"""Side of the deconvolution's kernel."""


class FSRCNN(nn.Module):
    """FSRCNN(d, s, m): features, shrinking, ``m`` mappings, expanding, deconvolution.

    Luma in 0..1, that is 16/255..235/255 (BT.601 studio range over 255), at low resolution; not clipped.
    (N, 1, H, W) -> (N, 1, scale * H, scale * W). The image's edge is repeated in every layer, as in the authors' demo;
    they trained without padding. Only the deconvolution's stride depends on the scale.
    """

    peak = 1.0
    smallest = 1

    def __init__(
        self, scale: int, *, channels: int = 56, shrunk_channels: int = 12, mappings: int = 4, features_kernel: int = 5
    ) -> None:
        super().__init__()
        self.scale = scale
        wide, narrow = channels, shrunk_channels
        self.features = _conv(1, wide, features_kernel)
        self.shrink = _conv(wide, narrow, 1)
        self.mappings = nn.ModuleList(_conv(narrow, narrow, 3) for _ in range(mappings))
        self.expand = _conv(narrow, wide, 1)
        # Weight k of input i goes to output scale * i + k - 4. The added stride takes off what the repeated edge adds.
        self.deconv = nn.ConvTranspose2d(
            wide, 1, _KERNEL, stride=scale, padding=_KERNEL // 2 + scale, output_padding=scale - 1
        )

    @property
    def receptive_radius(self) -> int:
        """Distance in LR pixels beyond which an input pixel cannot change an output pixel."""
        features: nn.Conv2d = self.features[0]  # type: ignore[assignment]
        half = _KERNEL // 2
        # From the cell's last pixel the deconvolution sees furthest.
        return features.kernel_size[0] // 2 + len(self.mappings) + (self.scale - 1 + half) // self.scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 1, scale * H, scale * W)."""
        x = self.shrink(self.features(x))
        for mapping in self.mappings:
            x = mapping(x)
        return self.deconv(F.pad(self.expand(x), (1, 1, 1, 1), mode="replicate"))  # type: ignore[no-any-return]


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Return a convolution and a PReLU with one slope per channel."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="replicate"),
        nn.PReLU(out_channels),
    )
