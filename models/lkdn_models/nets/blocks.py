"""Building blocks of several networks, with the parameter names of the published checkpoints.

Blocks map (N, C, H, W) to (N, C, H, W), unless stated otherwise.
"""

from collections.abc import Callable, Collection, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.fuse.branches import Convolution, Merged, Pad
from lkdn_models.reparameterised import layers

Layer = Callable[[int, int], nn.Module]
"""Makes a layer from its input and output channels: what networks of one plan differ in."""
Activation = Callable[[Tensor], Tensor]


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a plain 1x1 convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 1)


def unbiased(in_channels: int, out_channels: int, size: int, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, zero-padded to the same size.

    Args:
        in_channels, out_channels: numbers of channels.
        size: height and width of the kernel, odd.
        groups: number of groups.
    """
    return nn.Conv2d(in_channels, out_channels, size, padding=size // 2, groups=groups, bias=False)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a plain, zero-padded 3x3 convolution with bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def leaky(x: Tensor, slope: float = 0.05) -> Tensor:
    """Return a LeakyReLU, by default with the slope of IDN, IMDN, RFDN and RLFN."""
    return F.leaky_relu(x, slope)


class SRNetwork(nn.Module):
    """A super-resolution network, (N, C, H, W) -> (N, C, scale * H, scale * W), not clipped: RGB, or luma (C = 1).

    Luma is BT.601's in studio range over 255, so 16/255..235/255; networks of scale 1 take it enlarged to the output's
    size by MATLAB's bicubic.

    Attributes:
        scale: enlargement factor; 1 if the input is enlarged already.
        peak: top of the range of values.
        smallest: least height and width of the input.
        receptive_radius: distance in input pixels beyond which an input pixel cannot change an output pixel. None: an
            output pixel depends on the whole picture, or on its size.

    Raises:
        UsageError: if the network is made for certain scales, and this is none of them.
    """

    peak: float = 1.0
    smallest: int = 1
    receptive_radius: int | None = None

    def __init__(self, scale: int = 1, scales: Collection[int] = ()) -> None:
        super().__init__()
        if scales and scale not in scales:
            msg = f"{type(self).__name__} has no x{scale}"
            raise UsageError(msg, f"it has {', '.join(f'x{known}' for known in scales)}")
        self.scale = scale


class BSConv(nn.Module):
    """Blueprint separable convolution (Haase and Amthor, CVPR 2020): 1x1 without bias, then depthwise 3x3."""

    pw: nn.Module

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dw = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.dw(self.pw(x))  # type: ignore[no-any-return]


class BSRB(BSConv):
    """BSConv with a shortcut around both convolutions (BSRN, Li et al., CVPR-W 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x

    def branches(self) -> dict[str, Merged]:
        return {"": Merged(self.channels, (layers(self, "pw", "dw"), ()))}

    def plain(self) -> nn.Conv2d:
        return conv3x3(self.channels, self.channels)


class RBSB(BSConv):
    """Re-parameterised blueprint separable block (LKDN paper, eqs. 8 and 9).

    ``y = pw(x) + x``, then ``dw(y) + y + rep1x1(y)``. The paper's equation 9 has the second step on x; the published
    weights need y.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)
        self.rep1x1 = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pw(x) + x
        return self.dw(y) + y + self.rep1x1(y)  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        channels = self.rep1x1.in_channels
        return {
            "pw": Merged(channels, (layers(self, "pw"), ())),
            "dw": Merged(channels, (layers(self, "dw"), (), layers(self, "rep1x1"))),
        }

    def plain(self) -> BSConv:
        return BSConv(self.rep1x1.in_channels, self.rep1x1.in_channels)


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
        return x * self.depthwise_dilated(self.depthwise(self.pointwise(x)))  # type: ignore[no-any-return]


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, with learned scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RepUpsampler(nn.Module):
    """Training form of LKDN-S's up-sampler, (N, C, H, W) -> (N, 3, scale * H, scale * W).

    Three parallel maps to ``3 * scale**2`` channels, then pixel shuffle. The third is a 1x1 to twice the width and an
    unpadded 3x3. The map between them is bordered with the 1x1's bias, which is its result for a zero, so the three
    merge exactly into one zero-padded 3x3, at the border too.
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
        # On the border of a zero-padded map, a 1x1 gives its bias.
        inner = self.conv1x1(F.pad(x, (1, 1, 1, 1)))
        return self.shuffle(self.conv1(x) + self.conv3(x) + self.conv3x3(inner))  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        third = (Pad((1, 1)), *layers(self, "conv1x1", "conv3x3"))
        return {"0": Merged(self.conv1.in_channels, (layers(self, "conv1"), layers(self, "conv3"), third))}

    def plain(self) -> nn.Sequential:
        return shuffled(self.conv1.in_channels, self.shuffle.upscale_factor)


def unit_vectors(x: Tensor) -> Tensor:
    """Divide the channels of each pixel by their length, (N, C, H, W) -> (N, C, H, W); none counts as below 1e-12."""
    return x / x.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-12)


def replicate(x: Tensor, copies: int) -> Tensor:
    """Repeat the input along the channels, (N, C, H, W) -> (N, copies * C, H, W)."""
    return torch.cat([x] * copies, dim=1) if copies > 1 else x


class PixelCopies(nn.Module):
    """Copies of each channel, (N, C, H, W) -> (N, scale**2 * C, H, W).

    Added before a pixel shuffle, they are the picture enlarged by nearest neighbour. The layer is a fixed 1x1
    convolution, which engines join to what is around it.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        copies = torch.eye(channels).repeat_interleave(scale**2, dim=0)[:, :, None, None]
        self.register_buffer("copies", copies, persistent=False)
        self.copies: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.copies)


def add_numbered(parent: nn.Module, prefix: str, blocks: Iterable[nn.Module]) -> None:
    """Add blocks to a module under the names PREFIX1, PREFIX2, ..."""
    for number, block in enumerate(blocks, 1):
        parent.add_module(f"{prefix}{number}", block)


def numbered(parent: nn.Module, prefix: str) -> list[nn.Module]:
    """Return the blocks that ``add_numbered`` added."""
    return [block for name, block in parent.named_children() if name.rstrip("0123456789") == prefix]


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
        return super().forward(x) + x

    def branches(self) -> dict[str, Merged]:
        return {"": Merged(self.in_channels, ((Convolution("weight", "bias", (1, 1)),), ()))}

    def plain(self) -> nn.Conv2d:
        return conv3x3(self.in_channels, self.in_channels)


class FeatureDistillation(nn.Module):
    """The part of RFDN's, BSRN's and LKDN's blocks before the attention (RFDN, Liu et al., ECCV-W 2020).

    In each of three steps, a 1x1 keeps half as many channels and ``refine`` refines all of them for the next step. A
    3x3 halves the last refined ones, and a 1x1 makes ``out_channels``, by default C, of the four halves.
    """

    def __init__(
        self,
        channels: int,
        act: Activation,
        *,
        refine: Callable[[int], nn.Module],
        conv: Layer = conv3x3,
        pointwise: Layer = conv1x1,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        half = channels // 2
        self.act = act
        for step in ("c1", "c2", "c3"):
            self.add_module(f"{step}_d", pointwise(channels, half))
            self.add_module(f"{step}_r", refine(channels))
        self.c4 = conv(channels, half)
        self.c5 = pointwise(4 * half, out_channels or channels)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for step in ("c1", "c2", "c3"):
            kept.append(self.act(self.get_submodule(f"{step}_d")(x)))
            x = self.act(self.get_submodule(f"{step}_r")(x))
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
        joined: constructor of the 1x1 convolution through which the map joins the stretched one; default ``pointwise``.
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
        joined: Layer | None = None,
        steps: tuple[str, ...] = ("conv_max", "conv3", "conv3_"),
    ) -> None:
        super().__init__()
        self.act = act
        self.conv1 = pointwise(channels, width)
        self.conv_f = (joined or pointwise)(width, width)
        self.conv2 = shrink(width, width)
        self._steps = steps
        for name in steps:
            self.add_module(name, conv(width, width))
        self.conv4 = pointwise(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(x)
        seen = F.max_pool2d(self.conv2(narrow), 7, stride=3)
        for name in self._steps[:-1]:
            seen = self.act(self.get_submodule(name)(seen))
        seen = self.get_submodule(self._steps[-1])(seen)
        seen = F.interpolate(seen, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.conv4(seen + self.conv_f(narrow)))
