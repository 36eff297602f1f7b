"""LKDN of any width and depth, fused: it computes the same, and it is what its authors published."""

from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.reparameterised import fuse_network
from lkdn_models.training.online import merger

specs = st.builds(
    LkdnSpec,
    scale=st.integers(1, 4),
    blocks=st.integers(1, 3),
    channels=st.integers(1, 6).map(lambda half: 2 * half),
    attention_channels=st.integers(1, 9),
    block=st.sampled_from(Block),
    upsampler=st.sampled_from(Upsampler),
    input_copies=st.integers(1, 4),
)


@settings(max_examples=40)
@given(specs, st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
@torch.no_grad()
def test_any_network_computes_the_same_when_fused(spec: LkdnSpec, seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    network = LKDN(spec).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain, _ = fuse_network(network)
    want, got = network(x), plain(x)
    # Every pixel of so small an image is within reach of the border.
    assert (got - want).abs().max().item() < 1e-9 * max(1.0, want.abs().max().item())
    assert plain.spec == replace(spec.deployed, input_copies=1)
    assert plain.state_dict().keys() == LKDN(plain.spec).state_dict().keys()
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    twice, result = fuse_network(plain)
    assert not any(result.applied.values())
    assert all(torch.equal(value, twice.state_dict()[name]) for name, value in plain.state_dict().items())


def test_it_tells_each_fusion_and_each_reason_why_not() -> None:
    _, result = fuse_network(LKDN(LkdnSpec.lkdn_s(4)))
    assert len(result.applied) == 15 + 1 + 1
    assert result.applied["B1.c1_r"] == (
        "1x1 + identity -> 1x1; depthwise 3x3 + identity + depthwise 1x1 -> depthwise 3x3"
    )
    assert result.applied["upsampler"] == "1x1 + 3x3 + (1x1, 3x3) -> 3x3"
    assert result.applied[""] == "(4 copies, 1x1) -> 1x1"
    assert result.skipped == {}
    plain, result = fuse_network(LKDN(LkdnSpec(2, 1, 4, 4, Block.BSRB)))
    assert plain.spec.block is Block.BSRB
    assert result.skipped["B1.c1_r"] == "(1x1, depthwise 3x3) + identity would be a 3x3 of more weights"


def test_lkdn_s_fuses_to_the_tensors_that_its_authors_published(lkdn_weights: Path) -> None:
    train = load_checkpoint(lkdn_weights / "LKDN-S_x4.pth")
    published = load_checkpoint(lkdn_weights / "LKDN-S_del_rep_x4.pth")
    assert published.spec == replace(train.spec, block=Block.BSB, upsampler=Upsampler.PLAIN)
    fused = merger(train.spec)({name: value.double() for name, value in train.state.items()})
    assert fused.keys() == published.state.keys()
    assert max((fused[name] - value).abs().max().item() for name, value in published.state.items()) < 1e-6
