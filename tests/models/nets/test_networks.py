"""The networks: how far they see, what they return, and what each has of its own.

Their parameters, Multi-Adds and radii at full size are counted in ``tests/cli/test_zoo.py``; published weights are
measured in ``tests/models/test_published.py`` and ``tests/export``.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.imaging.resample import imresize
from lkdn_models.nets.abpn import ABPN
from lkdn_models.nets.bicubic import Bicubic
from lkdn_models.nets.bsrn import BSRN, BiasedBSConv, PlainESDB, Pointwise, SmallESDB
from lkdn_models.nets.carn import CARN
from lkdn_models.nets.cells import CellGrid, largest_in_cells, spread_over_pixels
from lkdn_models.nets.compact import Compact
from lkdn_models.nets.dipnet import DIPNet
from lkdn_models.nets.drrn import DRRN
from lkdn_models.nets.ecbsr import ECBSR
from lkdn_models.nets.efdn import EFDN
from lkdn_models.nets.espcn import ESPCN
from lkdn_models.nets.etds import ETDS, TransformedECBSR
from lkdn_models.nets.fsrcnn import FSRCNN
from lkdn_models.nets.gfmn import GFMN
from lkdn_models.nets.idn import IDN
from lkdn_models.nets.imdn import IMDN
from lkdn_models.nets.lapar import LAPAR
from lkdn_models.nets.lapsrn import LapSRN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.memnet import MemNet
from lkdn_models.nets.pan import PAN
from lkdn_models.nets.r2net import R2Net
from lkdn_models.nets.reprlfn import RepRLFN
from lkdn_models.nets.rfdn import RFDN, ChallengeRFDB
from lkdn_models.nets.rlfn import RLFN
from lkdn_models.nets.safmn import SAFMNv3
from lkdn_models.nets.sgsdn import SGSDN, SeparableAttention
from lkdn_models.nets.smfanet import SMFANet
from lkdn_models.nets.span import SPAN
from lkdn_models.nets.spanf import SPANF
from lkdn_models.nets.srcnn import SRCNN
from lkdn_models.nets.tssr import TSSR
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.nets.vdsr import VDSR
from lkdn_models.training.online import merger
from lkdn_models.zoo import ZooEntry, all_entries

Make = Callable[[], nn.Module]


def at(scales: tuple[int, ...], make: Callable[..., nn.Module], **settings: object) -> list[Make]:
    return [partial(make, scale, **settings) for scale in scales]


# Networks with a receptive radius, narrow and mostly shallow, and those of the published depth.
LUMA: list[Make] = [
    partial(SRCNN, channels=(6, 5)),
    partial(SRCNN, kernels=(9, 1, 5), channels=(6, 5)),
    *at((2, 3, 4), FSRCNN, channels=6, shrunk_channels=5, mappings=2),
    partial(VDSR, depth=4, channels=6),
    partial(ECBSR, 2, channels=6, depth=1, colours=1, trained=2),
    *at((2, 4), LapSRN, depth=2, channels=6),
    *at((2, 4), LapSRN, depth=2, channels=6, up_kernel=4),
    partial(DRRN, units=2, channels=6),
    partial(DRRN, units=2, channels=6, batch_norm=True),
    partial(MemNet, blocks=2, units=2, channels=6),
    partial(MemNet, blocks=2, units=2, channels=6, batch_norm=True),
]
LUMA_AT_FULL_DEPTH: list[Make] = [
    SRCNN,
    partial(SRCNN, kernels=(9, 1, 5)),
    *at((2, 3, 4), FSRCNN),
    partial(VDSR, channels=6),
    *at((2, 4), LapSRN, channels=6),
    partial(DRRN, channels=6),
    partial(MemNet, channels=4),
    *at((2, 3, 4), IDN),
]
COLOUR: list[Make] = [
    *at((2, 3, 4), LAPAR, blocks=1, channels=6),
    *at((2, 3, 4), VAPSR, channels=8, blocks=2),
    *at((2, 3, 4), PAN, channels=8, blocks=2),
    *at((2, 3, 4), BSRN, channels=8, blocks=1, block=PlainESDB),
    partial(LKDN, LkdnSpec(2, 2, 4, 4, Block.RBSB, Upsampler.REP)),
    *at((2, 4), SPAN, channels=6, blocks=2),
    partial(SPAN, 3, channels=6, blocks=2, trained=2),
    partial(SPANF, 4, channels=6, squeezed=5, blocks=2, ending=1),
    partial(TSSR, 4, channels=6, blocks=1, trained=1),
    *at((1, 4), Compact, channels=6, depth=2),
    *at((2, 3), ECBSR, channels=6, depth=1, trained=2),
    *at((3, 4), TransformedECBSR, channels=6, depth=1),
    *at((2, 3), ETDS, channels=6, depth=2),
    partial(ABPN, 3, channels=6, depth=1),
    partial(ESPCN, 3, channels=6, narrow=5),
    partial(SGSDN, channels=4, blocks=1),
]
LKDNS: list[Make] = [
    partial(LKDN, LkdnSpec(scale, 1, 8, 6, block, upsampler))
    for scale, block, upsampler in product((2, 3, 4), Block, Upsampler)
]
COLOUR_AT_FULL_DEPTH: list[Make] = [
    *at((2, 3, 4), CARN, channels=8),
    partial(CARN, 2, channels=8, groups=4, shared=True),
    *at((2, 3, 4), LAPAR, channels=4),
    partial(IDN.rgb, 2),
]
# Networks whose every pixel depends on the whole picture.
ESA = [
    *at((2, 3, 4), BSRN, blocks=1, channels=16),
    *at((2, 3, 4), BSRN, blocks=1, channels=8, block=SmallESDB, conv=BiasedBSConv, pointwise=Pointwise),
    *at((2, 3, 4), RFDN, blocks=1, channels=8, block=ChallengeRFDB),
    *at((2, 3, 4), RLFN, blocks=1, channels=8, inner=6),
    *at((2, 3, 4), EFDN, channels=8),
    *at((2, 3, 4), RepRLFN, blocks=1, channels=8),
    *at((2, 3, 4), DIPNet, blocks=1, channels=8),
    *at((2, 3, 4), R2Net, blocks=1, channels=8, width=4),
]
GLOBAL: list[Make] = [
    *ESA,
    *at((2, 3, 4), RFDN, blocks=1, channels=16),
    *at((2, 3, 4), IMDN, blocks=1, channels=16),
    *at((2, 3, 4), SMFANet, blocks=1, channels=8),
    *at((2, 3, 4), GFMN, blocks=1, channels=8, inner=6),
    *at((2, 3, 4), SAFMNv3, blocks=1, channels=8, modulated=3, inner=6),
]


@pytest.mark.parametrize(
    ("make", "channels"),
    [(make, 1) for make in LUMA + LUMA_AT_FULL_DEPTH] + [(make, 3) for make in COLOUR + COLOUR_AT_FULL_DEPTH],
)
def test_a_change_reaches_as_far_as_the_receptive_radius_and_no_further(
    make: Make, channels: int, reach: Callable[..., int]
) -> None:
    network = make()
    assert reach(network, channels) == network.receptive_radius


@pytest.mark.parametrize("make", GLOBAL[::3])
def test_with_global_attention_a_pixel_depends_on_the_whole_picture(
    make: Make, sees_everything: Callable[..., bool]
) -> None:
    network = make()
    assert network.receptive_radius is None
    assert sees_everything(network)


@pytest.mark.parametrize("make", ESA[::3])
def test_with_esa_a_smaller_picture_than_stated_is_too_small(make: Make) -> None:
    network = make()
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.rand(1, 3, 17, network.smallest - 1))


@pytest.mark.parametrize(
    ("make", "channels"),
    [(make, 1) for make in [*LUMA, *at((2, 3, 4), IDN)]] + [(make, 3) for make in COLOUR + LKDNS + GLOBAL],
)
def test_the_result_has_scale_times_the_size(make: Make, channels: int) -> None:
    network = make().eval()
    with torch.no_grad():
        out = network(torch.rand(2, channels, network.smallest, 17))
    assert out.shape == (2, channels, network.smallest * network.scale, 17 * network.scale)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        # LapSRN x2 as most tables have it: half as deep, with the up-convolution of the paper's text.
        (partial(LapSRN, 2, depth=5, up_kernel=4), 251_473),
        (partial(CARN, 2, scales=(2,)), 964_187),
        (partial(CARN, 3, scales=(3,)), 1_148_827),
        (partial(CARN, 4, scales=(4,)), 1_111_899),
        (partial(IDN.rgb, 2), 542_348),
        # The six numbers that weigh the outputs are not in the papers' count.
        (MemNet, 678_209 + 6),
        (partial(LKDN, LkdnSpec.lkdn_s(4)), 172_449),
        (partial(LKDN, LkdnSpec(4, 5, 42, 42, Block.RBSB)), 130_437),
        (partial(LKDN, LkdnSpec(4, 8, 64, 32)), 321_904),
    ],
)
def test_forms_that_papers_count_have_their_parameters(make: Make, parameters: int) -> None:
    assert sum(value.numel() for value in make().parameters()) == parameters


@pytest.mark.parametrize(
    "entry", [entry for entry in all_entries() if entry.spec], ids=lambda entry: f"{entry.name}-x{entry.scale}"
)
def test_a_fused_lkdn_has_the_parameters_of_the_paper(entry: ZooEntry) -> None:
    # The published files keep the four input copies; reading the input once saves their weights.
    fused = merger(entry.spec)(LKDN(entry.spec).state_dict())
    assert sum(value.numel() for value in fused.values()) == entry.parameters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LapSRN, 3), r"LapSRN has no x3 \(it has x2, x4\)"),
        (partial(CARN, 5), r"CARN has no x5 \(it has x2, x3, x4\)"),
        (partial(CARN, 4, scales=(2, 3)), r"CARN has no x4 \(it has x2, x3\)"),
        (partial(PAN, 5), r"PAN has no x5 \(it has x2, x3, x4\)"),
    ],
)
def test_a_scale_that_a_network_lacks_is_refused(make: Make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


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


def test_carn_of_one_scale_takes_its_part_of_the_published_weights() -> None:
    torch.manual_seed(0)
    whole, part = CARN.mobile(3), CARN.mobile(3, scales=(3,))
    missing, unexpected = part.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert {name.rpartition(".body")[0] for name in unexpected} == {"upsample.up2", "upsample.up4"}
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(whole(x), part(x))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_first_sample_of_caffe_s_transposed_convolution_in_idn_is_scale_less_one_pixels_inside(scale: int) -> None:
    torch.manual_seed(0)
    features, up = torch.rand(1, 64, 5, 7), IDN(scale).upsample
    with torch.no_grad():
        ours = up(features)[..., : 5 * scale, : 7 * scale]
        caffes = torch.nn.functional.conv_transpose2d(features, up.weight, up.bias, stride=scale, padding=8)
    assert torch.allclose(ours[..., scale - 1 :, scale - 1 :], caffes, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (2, 9), (7, 5)])
def test_the_bicubic_layer_enlarges_as_imresize_does_and_is_no_part_of_a_checkpoint(
    size: tuple[int, int], scale: int
) -> None:
    image = np.random.default_rng(0).random((*size, 3))
    layer = Bicubic(3, scale)
    enlarged = layer(torch.from_numpy(image).float().permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert np.allclose(enlarged.numpy(), imresize(image, scale), atol=1e-6)
    assert not layer.state_dict()


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("size", [(16, 16), (31, 17), (40, 29), (23, 64), (114, 228)])
def test_cells_are_those_of_adaptive_pooling_and_of_the_nearest_neighbour(
    size: tuple[int, int], side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, 3, *size)
    cells = CellGrid(side)(x)
    pooled = largest_in_cells(x, cells, side)
    assert torch.equal(pooled, nn.functional.adaptive_max_pool2d(x, (size[0] // side, size[1] // side)))
    expected = nn.functional.interpolate(pooled, size=size, mode="nearest")
    assert torch.equal(spread_over_pixels(pooled, cells, x), expected)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(spread_over_pixels(pooled, cells, x), expected)


@pytest.mark.parametrize(("kernel", "rows", "columns"), [(0, 0, 2), (1, 0, 15), (2, 2, 0), (3, 15, 0)])
def test_sgsdn_reaches_along_rows_and_then_along_columns(kernel: int, rows: int, columns: int) -> None:
    conv = SGSDN(channels=2, blocks=1).feats[0].VA1.LKA35[kernel]
    size = 2 * SeparableAttention.REACH + 1
    x = torch.rand(1, 2, size, size, requires_grad=True)
    conv(x)[0, 0, size // 2, size // 2].backward()
    reached = torch.nonzero(x.grad[0, 0]) - size // 2
    assert reached.abs().amax(0).tolist() == [rows, columns]
