"""SRCNN, FSRCNN, VDSR, LapSRN, DRRN, MemNet, CARN and LAPAR: their parameters, how far they see, what they give.

Their Multi-Adds are in ``tests/bench/test_complexity.py``.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lkdn_deploy.core.errors import UsageError
from lkdn_models.nets.carn import CARN
from lkdn_models.nets.drrn import DRRN
from lkdn_models.nets.fsrcnn import FSRCNN
from lkdn_models.nets.lapar import LAPAR
from lkdn_models.nets.lapsrn import LapSRN
from lkdn_models.nets.memnet import MemNet
from lkdn_models.nets.srcnn import SRCNN
from lkdn_models.nets.vdsr import VDSR


def colours(network: nn.Module) -> int:
    """Channels of the images a network takes."""
    return 3 if isinstance(network, (CARN, LAPAR)) else 1


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (SRCNN, 57_281),
        (lambda: SRCNN(kernels=(9, 1, 5)), 8_129),
        (lambda: FSRCNN(2), 12_809),
        (lambda: FSRCNN(3), 12_809),
        (lambda: FSRCNN(4), 12_809),
        (VDSR, 665_921),
        (lambda: LapSRN(2), 407_441),
        (lambda: LapSRN(4), 814_242),
        # LapSRN x2 as most tables have it: half as deep, with the up-convolution of the paper's text.
        (lambda: LapSRN(2, depth=5, up_kernel=4), 251_473),
        (DRRN, 297_601),
        # The six numbers that weigh the outputs are in no paper's count.
        (MemNet, 678_209 + 6),
        (lambda: CARN(2), 1_591_963),
        (lambda: CARN(3), 1_591_963),
        (lambda: CARN(4), 1_591_963),
        (lambda: CARN(2, scales=(2,)), 964_187),
        (lambda: CARN(3, scales=(3,)), 1_148_827),
        (lambda: CARN(4, scales=(4,)), 1_111_899),
        (lambda: CARN.mobile(2), 414_811),
        (lambda: CARN.mobile(3), 414_811),
        (lambda: CARN.mobile(4), 414_811),
        (lambda: LAPAR(2), 547_866),
        (lambda: LAPAR(3), 594_266),
        (lambda: LAPAR(4), 659_226),
    ],
)
def test_parameters_are_the_known_ones(make: Callable[[], nn.Module], parameters: int) -> None:
    assert sum(value.numel() for value in make().parameters()) == parameters


SHALLOW: list[Callable[[], nn.Module]] = [
    lambda: SRCNN(channels=(6, 5)),
    lambda: SRCNN(kernels=(9, 1, 5), channels=(6, 5)),
    *(lambda scale=scale: FSRCNN(scale, channels=6, shrunk_channels=5, mappings=2) for scale in (2, 3, 4)),
    lambda: VDSR(depth=4, channels=6),
    *(lambda scale=scale: LapSRN(scale, depth=2, channels=6) for scale in (2, 4)),
    *(lambda scale=scale: LapSRN(scale, depth=2, channels=6, up_kernel=4) for scale in (2, 4)),
    lambda: DRRN(units=2, channels=6),
    lambda: DRRN(units=2, channels=6, batch_norm=True),
    lambda: MemNet(blocks=2, units=2, channels=6),
    lambda: MemNet(blocks=2, units=2, channels=6, batch_norm=True),
    *(lambda scale=scale: LAPAR(scale, blocks=1, channels=6) for scale in (2, 3, 4)),
]
"""Deep enough to show every term of a radius, shallow enough for the last pixel's part to be seen in float64."""

NARROW: list[tuple[Callable[[], nn.Module], int]] = [
    (SRCNN, 8),
    (lambda: SRCNN(kernels=(9, 1, 5)), 6),
    (lambda: FSRCNN(2), 8),
    (lambda: FSRCNN(3), 8),
    (lambda: FSRCNN(4), 7),
    (lambda: VDSR(channels=6), 20),
    (lambda: LapSRN(2, channels=6), 12),
    (lambda: LapSRN(4, channels=6), 17),
    (lambda: DRRN(channels=6), 52),
    (lambda: MemNet(channels=4), 74),
    (lambda: CARN(2, channels=8), 21),
    (lambda: CARN(3, channels=8), 21),
    (lambda: CARN(4, channels=8), 21),
    (lambda: CARN(2, channels=8, groups=4, shared=True), 21),
    (lambda: LAPAR(2, channels=4), 40),
    (lambda: LAPAR(3, channels=4), 40),
    (lambda: LAPAR(4, channels=4), 39),
]
"""Of the published depth, and the radius that this gives."""


@pytest.mark.parametrize("make", SHALLOW)
def test_a_changed_pixel_is_felt_as_far_as_the_radius_says_and_no_further(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make().double().eval()
    size = 2 * network.receptive_radius + 5
    middle = size // 2
    x = torch.rand(1, colours(network), size, size, dtype=torch.float64)
    changed = x.clone()
    changed[..., middle, middle] += 1
    with torch.no_grad():
        moved = (network(x) - network(changed)).abs().amax(dim=(0, 1)) > 0
    distances = torch.nonzero(moved) // network.scale - middle
    assert distances.abs().max() == network.receptive_radius


@pytest.mark.parametrize(("make", "radius"), NARROW)
def test_at_its_full_depth_it_sees_as_far_as_the_radius_says(
    make: Callable[[], nn.Module], radius: int, reach: Callable[..., int]
) -> None:
    network = make()
    assert network.receptive_radius == radius
    assert reach(network, colours(network)) == radius


@pytest.mark.parametrize("make", SHALLOW)
def test_it_gives_a_picture_of_scale_times_the_size(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    channels, scale, smallest = colours(network), network.scale, network.smallest
    with torch.no_grad():
        out = network(torch.rand(2, channels, smallest, 7))
    assert out.shape == (2, channels, smallest * scale, 7 * scale)


def test_memnet_mixes_its_outputs() -> None:
    torch.manual_seed(0)
    network = MemNet(blocks=3, units=2, channels=6).double()
    x = torch.rand(1, 1, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        network.mix.copy_(torch.rand(3))
        outputs = network.outputs(x)
        expected = sum(weight * output for weight, output in zip(network.mix, outputs, strict=True))
        assert len(outputs) == 3
        assert torch.allclose(network(x), expected, rtol=0, atol=1e-12)


def test_lapsrn_begins_as_bilinear_interpolation() -> None:
    network = LapSRN(4, depth=1, channels=4)
    x = torch.rand(1, 1, 6, 7)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "residual_conv" in name:
                value.zero_()
        first, last = network.pyramid(x)
        assert torch.equal(last, network(x))
        # The published network pads zeros, interpolation repeats the edge.
        expected = nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
        assert torch.allclose(first[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: LapSRN(3), "LapSRN has no x3", "it has x2, x4"),
        (lambda: CARN(5), "CARN has no x5", "it has x2, x3, x4"),
        (lambda: CARN(4, scales=(2, 3)), "CARN has no x4", "it has x2, x3"),
    ],
)
def test_a_scale_that_it_has_not_is_refused(make: Callable[[], nn.Module], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make()
    assert caught.value.hint == hint


def test_carn_of_one_scale_takes_its_part_of_the_published_weights() -> None:
    torch.manual_seed(0)
    whole, part = CARN.mobile(3), CARN.mobile(3, scales=(3,))
    missing, unexpected = part.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert {name.rpartition(".body")[0] for name in unexpected} == {"upsample.up2", "upsample.up4"}
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(whole(x), part(x))
