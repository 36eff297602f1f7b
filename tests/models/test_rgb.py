"""Networks of luma or of another value range become networks of RGB in 0..1, by the papers' arithmetic."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lkdn_deploy.imaging.metrics import luma
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.samples import sample_pixels
from lkdn_models.nets.bicubic import Bicubic
from lkdn_models.nets.fsrcnn import FSRCNN
from lkdn_models.nets.srcnn import SRCNN
from lkdn_models.rgb import InRange, OnLuma, as_rgb
from lkdn_models.zoo import Input

SCALES = pytest.mark.parametrize("scale", [2, 3, 4])
PHOTOGRAPH = sample_pixels()[60:83, 80:117] / 255
"""(23, 37, 3) in 0..1."""


def run(network: nn.Module, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, C) -> (H', W', C'), in float64."""
    with torch.no_grad():
        out = network.double()(torch.from_numpy(image.transpose(2, 0, 1))[None].contiguous())
    return out[0].permute(1, 2, 0).numpy()


def ycbcr(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.601 in studio range, over 255."""
    r, g, b = np.moveaxis(rgb, 2, 0)
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    cb = 128 - 37.797 * r - 74.203 * g + 112 * b
    cr = 128 + 112 * r - 93.786 * g - 18.214 * b
    return np.stack([y, cb, cr], axis=2) / 255


class Square(nn.Module):
    """Not linear, so that the range is felt: the squares of what it gets, of 0..255."""

    scale, peak, smallest, receptive_radius = 1, 255.0, 3, 7

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


class Wide(nn.Module):
    """One convolution of positive weights that sees ``radius`` pixels far."""

    smallest, peak = 1, 1.0

    def __init__(self, radius: int, scale: int = 1) -> None:
        super().__init__()
        self.scale, self.receptive_radius = scale, radius
        self.weight = nn.Parameter(torch.rand(scale**2, 1, 2 * radius + 1, 2 * radius + 1) + 0.5)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(nn.functional.conv2d(x, self.weight, padding=self.receptive_radius))


class Interpolation(nn.Module):
    """Bicubic, of luma alone."""

    peak, smallest, receptive_radius = 1.0, 1, 2

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.bicubic = Bicubic(1, scale)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 1
        return self.bicubic(x)


class Untouched(nn.Module):
    """Gives what it gets, and keeps it."""

    scale, peak, smallest, receptive_radius = 1, 1.0, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


def test_a_network_of_rgb_in_0_to_1_is_left_as_it_is() -> None:
    network = Square()
    assert as_rgb(network, Input.RGB, 1) is network


def test_a_network_of_another_range_gets_and_gives_that_range() -> None:
    wrapped = as_rgb(Square(), Input.RGB_255, 1)
    assert isinstance(wrapped, InRange)
    assert np.allclose(run(wrapped, PHOTOGRAPH), 255 * PHOTOGRAPH**2)
    assert (wrapped.scale, wrapped.smallest, wrapped.receptive_radius) == (1, 3, 7)


def test_a_network_of_luma_of_another_range_gets_and_gives_that_range() -> None:
    class Kept(Untouched):
        peak = 255.0

    network = Kept()
    result = run(as_rgb(network, Input.LUMA, 1), PHOTOGRAPH)
    assert 16 <= network.seen.min() < network.seen.max() <= 235
    assert np.allclose(result, run(as_rgb(Untouched(), Input.LUMA, 1), PHOTOGRAPH), atol=1e-6)


@SCALES
def test_a_network_of_luma_gets_luma_in_studio_range_and_colours_are_enlarged(scale: int) -> None:
    torch.manual_seed(0)
    network = FSRCNN(scale, channels=6, shrunk_channels=5, mappings=1)
    wrapped = as_rgb(network, Input.LUMA, scale)
    expected = ycbcr(PHOTOGRAPH)
    expected = np.concatenate([run(network, expected[:, :, :1]), imresize(expected[:, :, 1:], scale)], axis=2)
    got = run(wrapped, PHOTOGRAPH)
    assert got.shape == (23 * scale, 37 * scale, 3)
    assert np.allclose(ycbcr(got), expected, rtol=0, atol=1e-6)


@SCALES
def test_a_network_of_enlarged_luma_gets_it_enlarged(scale: int) -> None:
    torch.manual_seed(0)
    network = SRCNN(channels=(6, 5))
    wrapped = as_rgb(network, Input.ENLARGED_LUMA, scale)
    expected = imresize(ycbcr(PHOTOGRAPH), scale)
    expected = np.concatenate([run(network, expected[:, :, :1]), expected[:, :, 1:]], axis=2)
    got = run(wrapped, PHOTOGRAPH)
    assert got.shape == (23 * scale, 37 * scale, 3)
    assert np.allclose(ycbcr(got), expected, rtol=0, atol=1e-6)


def test_luma_is_that_of_the_metrics() -> None:
    network = Untouched()
    run(as_rgb(network, Input.ENLARGED_LUMA, 2), PHOTOGRAPH)
    assert np.allclose(network.seen[0, 0], imresize(luma(255 * PHOTOGRAPH), 2) / 255, rtol=0, atol=1e-6)


@SCALES
@pytest.mark.parametrize("takes", [Input.LUMA, Input.ENLARGED_LUMA])
def test_where_luma_is_interpolated_too_it_is_bicubic_interpolation_of_rgb(takes: Input, scale: int) -> None:
    network = Untouched() if takes is Input.ENLARGED_LUMA else Interpolation(scale)
    got = run(as_rgb(network, takes, scale), PHOTOGRAPH)
    assert np.allclose(got, imresize(PHOTOGRAPH, scale), rtol=0, atol=1e-6)


@pytest.mark.parametrize("takes", [Input.LUMA, Input.ENLARGED_LUMA])
def test_grey_stays_grey(takes: Input) -> None:
    torch.manual_seed(0)
    network = Wide(1) if takes is Input.ENLARGED_LUMA else Wide(1, 2)
    grey = np.repeat(PHOTOGRAPH[:, :, :1], 3, axis=2)
    got = run(as_rgb(network, takes, 2), grey)
    assert got.std() > 0.1
    assert np.ptp(got, axis=2).max() < 1e-5


@SCALES
@pytest.mark.parametrize("radius", range(9))
def test_of_enlarged_luma_a_change_reaches_as_far_as_the_receptive_radius_and_no_further(
    radius: int, scale: int, reach: Callable[..., int]
) -> None:
    torch.manual_seed(0)
    network = OnLuma(Wide(radius), scale, enlarge=True)
    assert reach(network) == network.receptive_radius


@SCALES
@pytest.mark.parametrize("radius", range(4))
def test_of_luma_it_reaches_as_far_as_the_network_sees_or_the_interpolation_of_colours(
    radius: int, scale: int, reach: Callable[..., int]
) -> None:
    torch.manual_seed(0)
    network = OnLuma(Wide(radius, scale), scale, enlarge=False)
    assert reach(network) == network.receptive_radius == max(radius, 2)


@pytest.mark.parametrize(("needed", "smallest"), [(1, 2), (2, 2), (5, 5)])
@pytest.mark.parametrize("takes", [Input.LUMA, Input.ENLARGED_LUMA])
def test_it_takes_what_the_network_and_the_interpolation_take(takes: Input, needed: int, smallest: int) -> None:
    network = Wide(1) if takes is Input.ENLARGED_LUMA else Wide(1, 3)
    network.smallest = needed
    wrapped = as_rgb(network, takes, 3)
    assert wrapped.smallest == smallest
    assert run(wrapped, PHOTOGRAPH[:smallest, :7]).shape == (3 * smallest, 21, 3)


def test_what_is_fixed_is_no_part_of_a_checkpoint() -> None:
    network = SRCNN(channels=(6, 5))
    wrapped = as_rgb(network, Input.ENLARGED_LUMA, 2)
    assert wrapped.state_dict().keys() == {f"network.{name}" for name in network.state_dict()}
