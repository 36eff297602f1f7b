"""Building blocks of several networks. All tensors are (N, C, H, W); every convolution keeps height and width.

Parameter names are those of the published checkpoints.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[[int, int], nn.Module]
"""Makes a layer from its input and output channels: what networks of one plan differ in."""
Activation = Callable[[Tensor], Tensor]


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a plain 1x1 convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 1)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a plain, zero-padded 3x3 convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def leaky(x: Tensor) -> Tensor:
    """Return a LeakyReLU with slope 0.05, as IDN, IMDN, RFDN and RLFN have it."""
    return F.leaky_relu(x, 0.05)


class BSConv(nn.Module):
    """Blueprint separable convolution (Haase and Amthor, CVPR 2020): 1x1 without bias, then depthwise 3x3."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dw = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return self.dw(self.pw(x))  # type: ignore[no-any-return]


class BSRB(BSConv):
    """BSConv with a shortcut around both convolutions (BSRN, Li et al., CVPR-W 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x) + x


class RBSB(BSConv):
    """Re-parameterised blueprint separable block (LKDN paper, eqs. 8 and 9).

    ``y = pw(x) + x``, then ``dw(y) + y + rep1x1(y)``. The paper prints the second step on x; the published
    weights need y.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)
        self.rep1x1 = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = self.pw(x) + x
        return self.dw(y) + y + self.rep1x1(y)  # type: ignore[no-any-return]


class LargeKernelAttention(nn.Module):
    """Large kernel attention (Guo et al., 2022) in the small form of VAPSR and LKDN.

    A 1x1, a depthwise 5x5 and a depthwise 5x5 convolution with dilation 3, times the input: a 17x17 field for 50
    weights per channel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.depthwise_dilated = nn.Conv2d(channels, channels, 5, padding=6, groups=channels, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * self.depthwise_dilated(self.depthwise(self.pointwise(x)))  # type: ignore[no-any-return]


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, with learned scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RepUpsampler(nn.Module):
    """Training form of LKDN-S's up-sampler: three parallel maps to ``3 * scale**2`` channels, then pixel shuffle.

    The third is a 1x1 to twice the width, followed by an unpadded 3x3. The map between them is bordered with the 1x1's
    bias, which is its result for a zero, so the three merge exactly into one zero-padded 3x3, at the border too.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        out_channels = 3 * scale**2
        self.conv1 = nn.Conv2d(channels, out_channels, 1)
        self.conv3 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.conv1x1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv3x3 = nn.Conv2d(2 * channels, out_channels, 3)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 3, scale * H, scale * W)."""
        # On the border of a zero-padded map, a 1x1 gives its bias.
        inner = self.conv1x1(F.pad(x, (1, 1, 1, 1)))
        return self.shuffle(self.conv1(x) + self.conv3(x) + self.conv3x3(inner))  # type: ignore[no-any-return]


def replicate(x: Tensor, copies: int) -> Tensor:
    """Repeat the input along the channels, (N, C, H, W) -> (N, copies * C, H, W)."""
    return torch.cat([x] * copies, dim=1) if copies > 1 else x


def joined(blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run blocks one after the other and join their outputs, (N, C, H, W) -> (N, blocks * C, H, W)."""
    outputs = []
    for block in blocks:
        x = block(x)
        outputs.append(x)
    return torch.cat(outputs, dim=1)


def shuffled(channels: int, scale: int) -> nn.Sequential:
    """Return the plain up-sampler, (N, C, H, W) -> (N, 3, scale * H, scale * W): 3x3 convolution and pixel shuffle."""
    return nn.Sequential(conv3x3(channels, 3 * scale**2), nn.PixelShuffle(scale))


class SRB(nn.Conv2d):
    """Shallow residual block (RFDN, Liu et al., ECCV-W 2020): a 3x3 convolution with a shortcut around it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(x) + x


class FeatureDistillation(nn.Module):
    """The part of RFDN's and BSRN's blocks before the attention (RFDN, Liu et al., ECCV-W 2020).

    In each of three steps, a 1x1 keeps half as many channels and a residual convolution refines all of them for the
    next step. A 3x3 halves the last refined ones, and a 1x1 makes C channels of the four halves.
    """

    def __init__(
        self,
        channels: int,
        act: Activation,
        *,
        refine: Callable[[int], nn.Module],
        conv: Layer = conv3x3,
        pointwise: Layer = conv1x1,
    ) -> None:
        super().__init__()
        half = channels // 2
        self.act = act
        self.c1_d = pointwise(channels, half)
        self.c1_r = refine(channels)
        self.c2_d = pointwise(channels, half)
        self.c2_r = refine(channels)
        self.c3_d = pointwise(channels, half)
        self.c3_r = refine(channels)
        self.c4 = conv(channels, half)
        self.c5 = pointwise(4 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        kept = []
        for distil, refine in ((self.c1_d, self.c1_r), (self.c2_d, self.c2_r), (self.c3_d, self.c3_r)):
            kept.append(self.act(distil(x)))
            x = self.act(refine(x))
        kept.append(self.act(self.c4(x)))
        return self.c5(torch.cat(kept, dim=1))  # type: ignore[no-any-return]


class CCA(nn.Module):
    """Contrast-aware channel attention (IMDN, Hui et al., ACM MM 2019).

    The weight of a channel comes from the sum of its mean and (population) standard deviation over the whole picture,
    so every pixel depends on every other.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = channels // reduction
        self.conv_du = nn.Sequential(conv1x1(channels, inner), nn.ReLU(), conv1x1(inner, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        mean = x.mean((2, 3), keepdim=True)
        contrast = (x - mean).square().mean((2, 3), keepdim=True).sqrt()
        return x * self.conv_du(mean + contrast)  # type: ignore[no-any-return]


class ESA(nn.Module):
    """Enhanced spatial attention (RFANet, Liu et al., CVPR 2020), in the form of RFDN.

    A strided convolution and a max-pool shrink a map of few channels; after 3x3 convolutions it is stretched
    bilinearly over the picture. The unpadded shrinking loses the right and lower rim, so the stretching depends on the
    picture's size: a part of a picture gets another result than it has within the whole, however much surrounds it.
    Height and width must be at least ``SMALLEST``.

    Args:
        channels: number of channels C.
        width: number of channels of the map.
        act: activation between the 3x3 convolutions on the shrunk map.
        conv: constructor of these.
        pointwise: constructor of the 1x1 convolutions.
        shrink: constructor of the unpadded 3x3 convolution with stride 2.
        steps: names of the convolutions on the shrunk map, in order.
    """

    SMALLEST = 15
    """The strided 3x3 makes 7 of it, which is the pool's window."""

    def __init__(
        self,
        channels: int,
        width: int,
        act: Activation = F.relu,
        *,
        conv: Layer = conv3x3,
        pointwise: Layer = conv1x1,
        shrink: Layer = lambda in_channels, out_channels: nn.Conv2d(in_channels, out_channels, 3, stride=2),
        steps: tuple[str, ...] = ("conv_max", "conv3", "conv3_"),
    ) -> None:
        super().__init__()
        self.act = act
        self.conv1 = pointwise(channels, width)
        self.conv_f = pointwise(width, width)
        self.conv2 = shrink(width, width)
        self._steps = steps
        for name in steps:
            self.add_module(name, conv(width, width))
        self.conv4 = pointwise(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        narrow = self.conv1(x)
        seen = F.max_pool2d(self.conv2(narrow), 7, stride=3)
        for name in self._steps[:-1]:
            seen = self.act(self.get_submodule(name)(seen))
        seen = self.get_submodule(self._steps[-1])(seen)
        seen = F.interpolate(seen, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(seen + self.conv_f(narrow)))
