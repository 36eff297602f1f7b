"""Multi-Adds and other figures of published networks, as their papers print them."""

from collections.abc import Callable

import pytest
from torch import nn

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.nets.bsrn import BSRN
from lkdn_models.nets.carn import CARN
from lkdn_models.nets.drrn import DRRN
from lkdn_models.nets.fsrcnn import FSRCNN
from lkdn_models.nets.idn import IDN
from lkdn_models.nets.imdn import IMDN
from lkdn_models.nets.lapar import LAPAR
from lkdn_models.nets.lapsrn import LapSRN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.memnet import MemNet
from lkdn_models.nets.pan import PAN
from lkdn_models.nets.rfdn import RFDN
from lkdn_models.nets.rlfn import RLFN
from lkdn_models.nets.srcnn import SRCNN
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.nets.vdsr import VDSR

C, C_OUT, B, B_POOLS, T = Rule.C, Rule.C_OUT, Rule.B, Rule.B_POOLS, Rule.T
HD = (720, 1280)
X2, X3, X4 = (360, 640), (240, 426), (180, 320)
WIDE = (240, 427)
"""The size that some papers use for a third of 1280x720."""
NINTH = (320, 320)
"""As many positions as a ninth of it."""

Published = dict[tuple[int | None, tuple[int, int]], dict[Rule, str]]
"""Multi-Adds in G by scale, size of the input and rule."""
Network = Callable[..., nn.Module]
"""Takes the scale, unless that is ``None``."""


LUMA: list[tuple[Network, Published]] = [
    (SRCNN, {(None, HD): {C: "52.7008"}}),
    (lambda: SRCNN(kernels=(9, 1, 5)), {(None, HD): {C: "7.4023"}}),
    (
        FSRCNN,
        {
            (2, X2): {C_OUT: "6.0070", C: "2.8717"},
            (3, X3): {C_OUT: "4.9844", C: "1.2743"},
            (4, X4): {C_OUT: "4.6370", C: "0.7179"},
        },
    ),
    (VDSR, {(None, HD): {C: "612.5912"}}),
    # At x2 papers also print what it takes for half the output's height and width.
    (LapSRN, {(2, X2): {C_OUT: "119.5868"}, (2, X4): {C_OUT: "29.8967"}, (4, X4): {C_OUT: "149.3508"}}),
    (DRRN, {(None, HD): {C: "6796.8958"}}),
    (MemNet, {(None, HD): {C: "2662.3476"}}),
    (IDN, {(2, X2): {C: "126.9596"}, (3, X3): {C: "56.3383"}, (4, X4): {C: "31.7399"}}),
]
RGB: list[tuple[Network, Published]] = [
    (IDN.rgb, {(2, X2): {C: "124.5561"}, (3, WIDE): {C: "56.2869"}, (4, X4): {C: "32.3334"}}),
    (CARN, {(2, X2): {C: "222.8311"}, (3, NINTH): {C: "118.800"}, (4, X4): {C: "90.8823"}}),
    (CARN.mobile, {(2, X2): {C: "91.1824"}, (3, X3): {C: "46.0614"}, (4, X4): {C: "32.4897"}}),
    (IMDN, {(2, X2): {C: "158.7659"}, (3, WIDE): {C: "71.5032"}, (4, X4): {C: "40.8859"}}),
    (PAN, {(2, X2): {C: "70.5190"}, (3, X3): {C: "38.9853"}, (4, X4): {C: "28.1636"}}),
    # Without the interpolation and the mixing of filters, which the paper does not count.
    (
        LAPAR,
        {
            (2, X2): {B: "170.761", C: "170.3043"},
            (3, X3): {B: "113.698", C: "113.3932"},
            (4, X4): {B: "93.966", C: "93.7138"},
        },
    ),
    (RFDN, {(2, X2): {C: "120.9324"}, (3, X3): {C: "54.3263"}, (4, X4): {C: "31.1289"}}),
    # The paper prints figures of the challenge's network, which enlarges by 4, at all three sizes.
    (RFDN.challenge, {(None, X2): {C: "95.045"}, (None, X3): {C: "42.174"}, (None, X4): {B: "23.858", C: "23.7591"}}),
    (RLFN, {(2, X2): {C: "115.4165"}, (3, X3): {C: "51.9311"}, (4, X4): {C: "29.8215"}}),
    (RLFN.small, {(2, X2): {C: "98.8028"}, (4, X4): {C: "25.5935"}}),
    (RLFN.challenge, {(None, X4): {C: "17.2769"}}),
    (
        BSRN,
        {
            (2, X2): {B_POOLS: "72.9947", C: "71.935"},
            (3, X3): {B_POOLS: "33.2753", C: "32.804"},
            (4, X4): {B_POOLS: "19.4440", C: "19.177"},
        },
    ),
    (BSRN.without_attention, {(None, X4): {B: "18.158", C: "17.968"}}),
    (BSRN.small, {(None, X4): {C: "8.2878"}}),
    (VAPSR, {(2, X2): {C: "73.975"}, (3, X3): {C: "33.5993"}, (4, X4): {C: "19.5167", T: "19.7490"}}),
    (VAPSR.small, {(None, X4): {C: "8.9930"}}),
    (
        lambda s: LKDN(LkdnSpec.lkdn(s).deployed),
        {
            (2, X2): {T: "69.1311", C: "68.718"},
            (3, X3): {T: "31.4498", C: "31.267"},
            (4, X4): {T: "18.3279", C: "18.225"},
        },
    ),
    (
        lambda s: LKDN(LkdnSpec.lkdn_s(s).deployed),
        {
            (2, X2): {T: "26.1999", C: "26.006"},
            (3, X3): {T: "12.2059", C: "12.120"},
            (4, X4): {T: "7.3338", C: "7.285"},
        },
    ),
    (lambda: LKDN(LkdnSpec(4, 8, 64, 32).deployed), {(None, X4): {T: "18.3509", C: "18.233"}}),
]


@pytest.mark.parametrize(("make", "published", "channels"), [(*row, 1) for row in LUMA] + [(*row, 3) for row in RGB])
def test_multi_adds_are_the_published_ones(
    make: Network, published: Published, channels: int, without_memory: None
) -> None:
    for (scale, size), giga in published.items():
        counted = count(make() if scale is None else make(scale), (1, channels, *size))
        digits = {rule: len(value.partition(".")[2]) for rule, value in giga.items()}
        assert {rule: f"{counted.multi_adds(rule) / 1e9:.{n}f}" for rule, n in digits.items()} == giga


def test_the_challenge_s_figures_for_its_baseline_are_the_published_ones() -> None:
    counted = count(RFDN.challenge(), (1, 3, 256, 256))
    assert f"{counted.ntire_flops / 1e9:.2f}" == "27.10"
    assert f"{counted.activations / 1e6:.2f}" == "112.03"
    assert counted.convolutions == 64
    assert f"{counted.parameters / 1e6:.3f}" == "0.433"
