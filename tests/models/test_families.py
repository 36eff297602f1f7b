"""Networks of a family are recognised in any widths, at any scale and in their training form."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from lkdn_deploy.core.errors import InputError
from lkdn_models.nets.abpn import ABPN
from lkdn_models.nets.compact import Compact
from lkdn_models.nets.ecbsr import ECBSR
from lkdn_models.nets.espcn import ESPCN
from lkdn_models.nets.etds import ETDS, TransformedECBSR
from lkdn_models.nets.gfmn import GFMN
from lkdn_models.nets.r2net import R2Net
from lkdn_models.nets.safmn import SAFMNv3
from lkdn_models.nets.sgsdn import SGSDN
from lkdn_models.nets.smfanet import SMFANet
from lkdn_models.nets.span import SPAN
from lkdn_models.nets.spanf import SPANF
from lkdn_models.nets.tssr import TSSR
from lkdn_models.recognise import State, recognise
from lkdn_models.reparameterised import fuse_network
from lkdn_models.zoo import Input, Variant, find


def state(make: Callable[[], nn.Module]) -> State:
    with torch.device("meta"):
        return make().state_dict()


@pytest.mark.parametrize(
    ("make", "name", "scale"),
    [
        (partial(SPAN, 4, channels=52), "span-c52-b6-n1", 4),
        (partial(SPAN, 1, channels=48), "span-ch48", 1),
        (partial(SPAN, 2, channels=48, norm=0), "span-c48-b6-n0", 2),
        (partial(SPAN, 4, channels=48, trained=2), "span-ch48", 4),
        (partial(SPAN, 3, channels=12, blocks=4, trained=1), "span-c12-b4-n1", 3),
        (partial(SPANF, 2, channels=16, blocks=3), "spanf-c16-s32-b3-e0", 2),
        (partial(SPANF, 4, squeezed=20, ending=1, trained=2), "pds", 4),
        (partial(TSSR, 4, trained=2), "tssr", 4),
        (partial(Compact, 1), "compact", 1),
        (partial(Compact, 2, channels=24, depth=8), "compact-c24-d8", 2),
        (partial(Compact, 8, depth=32), "compact-c64-d32", 8),
        (partial(ECBSR, 2, channels=8, depth=10, trained=2), "ecbsr-c8-d10-c3", 2),
        (partial(ECBSR, 3, colours=1), "ecbsr-c16-d4-c1", 3),
        (partial(TransformedECBSR, 3, channels=12, depth=3), "etds-c12-d3", 3),
        (partial(ETDS, 2, channels=24, depth=5), "etds-c24-d5", 2),
        (partial(ABPN, 4, channels=28, depth=4), "abpn-c28-d4", 4),
        (partial(ESPCN, 5), "espcn", 5),
        (partial(SMFANet, 2, channels=48, blocks=12), "smfanet-c48-b12", 2),
        (partial(SGSDN, 2, channels=16, blocks=3), "sgsdn-c16-b3", 2),
        (partial(GFMN, 2), "gfmn", 2),
        (partial(R2Net, 3, channels=32, width=8, blocks=6), "r2net-c32-w8-b6", 3),
        (partial(SAFMNv3, 2, channels=32, modulated=8, inner=48), "safmn-c32-m8-i48-b6", 2),
    ],
)
def test_a_member_is_recognised_by_its_shapes(make: Callable[[], nn.Module], name: str, scale: int) -> None:
    weights = state(make)
    known = recognise(weights)
    assert isinstance(known, Variant)
    assert (known.name, known.scale) == (name, scale)
    with torch.device("meta"):
        built = known.build()
        deployed = known.build(deployed=True)
    assert type(built) is type(make())
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in weights.items()
    }
    assert not any(".sk." in key or "conv1x1_" in key for key in deployed.state_dict())


def test_the_published_widths_are_the_entry_of_the_zoo() -> None:
    assert recognise(state(partial(SPAN, 4, channels=28))) is find("span-ch28", 4)
    assert recognise(state(partial(Compact, 4))) is find("compact", 4)


def test_an_ecbsr_of_one_channel_takes_luma() -> None:
    known = recognise(state(partial(ECBSR, 2, colours=1, trained=2)))
    assert known.input is Input.LUMA
    assert known.build().peak == 255


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (
            partial(SPAN, 4, channels=30),
            lambda it: it.pop("block_3.c2_r.eval_conv.bias"),
            r"looks like span-c30-b6-n1 x4, but does not fit it \(block_3\.c2_r\.eval_conv\.bias is missing\)",
        ),
        (
            partial(Compact, 4, channels=40),
            lambda it: it.update({"body.2.weight": torch.zeros(40, 4, 3, 3)}),
            r"looks like compact-c40-d16 x4, .* \(body\.2\.weight is \(40, 4, 3, 3\), not \(40, 40, 3, 3\)\)",
        ),
        (
            partial(Compact, 4),
            lambda it: [it.pop(f"body.{place}.weight") for place in range(1, 35, 2)],
            "looks like|no network",
        ),
        (partial(Compact, 4), lambda it: it.update({"body.34.weight": torch.zeros(999, 64, 3, 3)}), "compact"),
        (partial(Compact, 4), lambda it: it.update({"body.34.weight": torch.zeros(0, 64, 3, 3)}), "compact"),
        (partial(Compact, 4), lambda it: it.update({"body.0.weight": torch.zeros(())}), "compact"),
    ],
)
def test_a_member_that_almost_fits_is_named_with_what_is_wrong(
    make: Callable[[], nn.Module], change: Callable[[dict], object], message: str
) -> None:
    weights = dict(state(make))
    change(weights)
    with pytest.raises(InputError, match=message):
        recognise(weights)


@pytest.mark.parametrize(
    "make",
    [
        partial(SPAN, 2, channels=6, blocks=2, trained=2),
        partial(SPANF, 2, channels=6, squeezed=5, blocks=2, trained=1),
        partial(TSSR, 2, channels=6, blocks=1, trained=2),
        partial(ECBSR, 2, channels=6, depth=2, trained=2),
        partial(ECBSR, 3, channels=6, depth=1, colours=1, trained=3),
    ],
)
def test_a_training_form_fuses_into_the_same_function_at_the_border_too(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make().double().eval()
    for name, value in network.named_parameters():
        if name.endswith((".scale", ".bias", ".b0", ".b1")):
            torch.nn.init.normal_(value, std=0.3)
    plain, result = fuse_network(network)
    assert result.applied
    assert not result.skipped
    x = torch.rand(1, 1 if network.peak == 255 else 3, 7, 9, dtype=torch.float64) * network.peak
    with torch.no_grad():
        expected = network(x)
        assert torch.allclose(plain(x), expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
    assert sum(value.numel() for value in plain.parameters()) == sum(
        value.numel() for value in recognise(state(make)).build(deployed=True).parameters()
    )
