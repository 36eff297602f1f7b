"""Blocks that published networks are trained with become plain convolutions, or are left alone with the reason."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.fuse.branches import Chain, Convolution, Merged, Pad, Sum
from lkdn_models.reparameterised import fuse_network, layers

FIXED = {
    "sobel_x": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "sobel_y": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    "laplacian": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}


class Trained(nn.Module):
    """A block of C to C channels whose plain form is a 3x3 convolution called ``rep``."""

    channels = 6

    def plain(self) -> nn.Module:
        return nn.Sequential(OrderedDict(rep=nn.Conv2d(self.channels, self.channels, 3, padding=1)))

    def merged(self, *branches: Chain) -> dict[str, Merged]:
        return {"rep": Merged(self.channels, branches)}


def padded(x: Tensor, value: Tensor) -> Tensor:
    """Return x with a border of a value for each channel."""
    wide = value[:, None, None].expand(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2).clone()
    wide[:, :, 1:-1, 1:-1] = x
    return wide


class Conv3XC(Trained):
    """SPAN's: the picture is padded once, before a 1x1, a 3x3 and a 1x1. The merged form lies beside it."""

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.sk = nn.Conv2d(c, c, 1)
        self.conv = nn.Sequential(nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3), nn.Conv2d(2 * c, c, 1))
        self.rep = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)

    def branches(self) -> dict[str, Merged]:
        return self.merged((Pad((1, 1)), *layers(self, "conv")), layers(self, "sk"))


class Ecb(Trained):
    """ECBSR's, and EFDN's: maps between are bordered with the 1x1's bias; the Sobel and Laplacian kernels are fixed."""

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.conv3x3 = nn.Conv2d(c, c, 3, padding=1)
        self.points = nn.ModuleDict({name: nn.Conv2d(c, 2 * c if name == "3x3" else c, 1) for name in ("3x3", *FIXED)})
        self.second = nn.Conv2d(2 * c, c, 3)
        for name, kernel in FIXED.items():
            self.register_parameter(f"{name}_scale", nn.Parameter(torch.randn(c, 1, 1, 1)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.randn(c)))
            self.register_buffer(f"{name}_mask", torch.tensor(kernel).expand(c, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.conv3x3(x) + self.second(self._bordered("3x3", x))
        for name in FIXED:
            kernel = self.get_parameter(f"{name}_scale") * self.get_buffer(f"{name}_mask")
            y += F.conv2d(self._bordered(name, x), kernel, self.get_parameter(f"{name}_bias"), groups=self.channels)
        return y

    def _bordered(self, name: str, x: Tensor) -> Tensor:
        return padded(self.points[name](x), self.points[name].bias)

    def branches(self) -> dict[str, Merged]:
        fixed = (
            Convolution(f"{name}_scale", f"{name}_bias", groups=self.channels, mask=f"{name}_mask") for name in FIXED
        )
        chains = ((name, step) for name, step in zip(("3x3", *FIXED), (*layers(self, "second"), *fixed), strict=True))
        bordered = ((*layers(self, f"points.{name}"), Pad((1, 1), carried=True), step) for name, step in chains)
        return self.merged((), layers(self, "conv3x3"), *bordered)


class Rrrb(Trained):
    """FMEN's: a shortcut around the middle one of three convolutions, and one around all."""

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.expand, self.middle, self.reduce = (
            nn.Conv2d(c, 2 * c, 1),
            nn.Conv2d(2 * c, 2 * c, 3),
            nn.Conv2d(2 * c, c, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        wide = self.expand(x)
        return self.reduce(self.middle(padded(wide, self.expand.bias)) + wide) + x

    def branches(self) -> dict[str, Merged]:
        inner = Sum(((Pad((1, 1), carried=True), *layers(self, "middle")), ()))
        return self.merged((*layers(self, "expand"), inner, *layers(self, "reduce")), ())


class RepVgg(Trained):
    """RepVGG's, with the row and the column of RepRFN's RRFB: batch norm after each, and alone."""

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        for name, size in {"square": (3, 3), "row": (1, 3), "column": (3, 1), "point": (1, 1)}.items():
            padding = size[0] // 2, size[1] // 2
            self.add_module(name, nn.Sequential(nn.Conv2d(c, c, size, padding=padding, bias=False), nn.BatchNorm2d(c)))
        self.alone = nn.BatchNorm2d(c, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.square(x) + self.row(x) + self.column(x) + self.point(x) + self.alone(x)

    def branches(self) -> dict[str, Merged]:
        return self.merged(*(layers(self, name) for name in ("square", "row", "column", "point", "alone")))


class Dbb(Trained):
    """The diverse branch block: maps between are bordered with what the batch norm makes of zeros; one is averaged."""

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.origin = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.first, self.other = (nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)) for _ in range(2))
        self.second = nn.Sequential(nn.Conv2d(c, c, 3, bias=False), nn.BatchNorm2d(c))
        self.average = nn.Sequential(nn.AvgPool2d(3, 1), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        return self.origin(x) + self.second(self._bordered(self.first, x)) + self.average(self._bordered(self.other, x))

    def _bordered(self, part: nn.Sequential, x: Tensor) -> Tensor:
        norm = part[1]
        value = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
        return padded(part(x), value)

    def branches(self) -> dict[str, Merged]:
        border = Pad((1, 1), carried=True)
        return self.merged(
            layers(self, "origin"),
            (*layers(self, "first"), border, *layers(self, "second")),
            (*layers(self, "other"), border, *layers(self, "average")),
        )


class Chained(Trained):
    """A sequence of layers, each with its own padding."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Merged]:
        return self.merged(layers(self, "parts"))


def network(block: nn.Module) -> nn.Module:
    """Return a network around the block, with statistics and weights of a trained one."""
    whole = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), block, nn.GELU(), nn.Conv2d(6, 3, 1)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in whole.state_dict().items():
        if value.is_floating_point() and not name.endswith("_mask"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.2 - 0.7 * (value.ndim > 1))
    return whole


KNOWN = {
    Conv3XC: "(1x1, 3x3, 1x1) + 1x1",
    Ecb: "identity + 3x3 + (1x1, 3x3)" + " + (1x1, fixed depthwise 3x3)" * 3,
    Rrrb: "(1x1, 3x3 + identity, 1x1) + identity",
    RepVgg: "(3x3, batch norm) + (1x3, batch norm) + (3x1, batch norm) + (1x1, batch norm) + batch norm",
    Dbb: "(3x3, batch norm) + (1x1, batch norm, 3x3, batch norm) + (1x1, batch norm, fixed 3x3, batch norm)",
}


@pytest.mark.parametrize("block", KNOWN)
@torch.no_grad()
def test_a_known_block_becomes_one_convolution_that_is_exact_at_the_border(block: Callable[[], Trained]) -> None:
    trained = network(block())
    plain, result = fuse_network(trained)
    assert (result.applied, result.skipped) == ({"2": f"{KNOWN[block]} -> 3x3"}, {})
    assert plain.state_dict().keys() == network(block().plain()).state_dict().keys()
    x = torch.rand(2, 3, 5, 4)
    assert (trained(x) - plain(x)).abs().max() < 1e-5 * trained(x).abs().max()
    exact = trained.double()
    assert (exact(x.double()) - fuse_network(exact)[0](x.double())).abs().max() < 1e-12 * exact(x.double()).abs().max()


def test_a_known_block_with_a_border_of_zeros_is_left_alone() -> None:
    class ZeroBorder(Conv3XC):
        """As the names of the weights alone suggest: the 3x3 pads its own input."""

        def branches(self) -> dict[str, Merged]:
            first, middle, last = layers(self, "conv")
            return self.merged((first, Pad((1, 1)), middle, last), layers(self, "sk"))

    trained = network(ZeroBorder())
    plain, result = fuse_network(trained)
    assert result.applied == {}
    assert result.skipped == {
        "2": "zeros pad the result of layers with a bias, and one convolution would go on there with the bias"
    }
    assert plain.state_dict().keys() == trained.state_dict().keys()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 3, padding=1)), "zeros pad the result of layers with a bias"),
        ((nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.Conv2d(6, 6, 3, padding=1)), "a 3x3 convolution is padded"),
        ((nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)), "zeros pad the result of layers with a bias"),
        ((nn.Conv2d(6, 6, 1), nn.PReLU(6), nn.Conv2d(6, 6, 1)), r"parts.1 \(PReLU\) is no convolution"),
        ((nn.Conv2d(6, 6, 3, stride=2, padding=1),), r"parts.0 \(Conv2d\) is no convolution of stride 1"),
        ((nn.Conv2d(6, 6, 3, dilation=2, padding=2),), "dilation 1"),
        ((nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),), "zero padding"),
        ((nn.Conv2d(6, 6, 3),), "smaller than the picture"),
        ((nn.ZeroPad2d(2), nn.Conv2d(6, 6, 3)), "larger than the picture"),
        ((nn.Conv2d(6, 2, 1, bias=False), nn.Conv2d(2, 6, 3, padding=1)), "would be a 3x3 of more weights"),
    ],
)
def test_what_only_looks_like_one_convolution_is_left_alone_with_the_reason(
    parts: tuple[nn.Module, ...], said: str
) -> None:
    trained = network(Chained(*parts))
    plain, result = fuse_network(trained)
    assert result.applied == {}
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(result.skipped["2"])
    assert plain.state_dict().keys() == trained.state_dict().keys()


@torch.no_grad()
def test_layers_without_a_bias_between_padded_ones_become_one() -> None:
    parts = nn.Conv2d(6, 9, 1, bias=False), nn.Identity(), nn.Conv2d(9, 9, 3, padding=1), nn.Conv2d(9, 6, 1)
    trained = network(Chained(*parts))
    plain, result = fuse_network(trained)
    assert result.applied == {"2": "(1x1, 3x3, 1x1) -> 3x3"}
    x = torch.rand(1, 3, 3, 3)
    torch.testing.assert_close(plain(x), trained(x))


def test_weights_that_do_not_fit_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="a convolution of 9 channels"):
        fuse_network(network(Chained(nn.Conv2d(6, 9, 1), nn.Conv2d(8, 6, 1))))
