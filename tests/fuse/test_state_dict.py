"""The plan on whole networks: any width and depth, twice, and against the authors' own fusion."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse.state_dict import FuseResult, fuse_branches, fuse_state
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.nets.lkdn import LKDN

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


def arrays(state: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.generic]]:
    return {name: value.numpy() for name, value in state.items()}


def network_of(result: FuseResult) -> LKDN:
    network = LKDN(result.spec).to(torch.from_numpy(next(iter(result.state.values()))).dtype)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in result.state.items()})
    return network


@settings(max_examples=40)
@given(specs, st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
def test_any_network_computes_the_same_when_fused(spec: LkdnSpec, seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    network = LKDN(spec).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    result = fuse_state(arrays(network.state_dict()), spec)
    with torch.no_grad():
        want, got = network(x), network_of(result)(x)
    # Every pixel of so small an image is within reach of the border.
    assert (got - want).abs().max().item() < 1e-9 * max(1.0, want.abs().max().item())
    assert result.spec.fused
    assert result.spec.input_copies == 1


@settings(max_examples=20)
@given(specs)
def test_fusing_twice_changes_nothing(spec: LkdnSpec) -> None:
    once = fuse_state(arrays(LKDN(spec).state_dict()), spec)
    twice = fuse_state(once.state, once.spec)
    assert twice.spec == once.spec
    assert twice.applied == ()
    assert len(twice.skipped) == 3
    assert twice.state.keys() == once.state.keys()
    assert all(np.array_equal(twice.state[name], once.state[name]) for name in once.state)


def test_the_arguments_are_left_as_they_are() -> None:
    spec = LkdnSpec(2, 1, 4, 4, Block.RBSB, Upsampler.REP)
    state = arrays(LKDN(spec).state_dict())
    before = {name: value.copy() for name, value in state.items()}
    fuse_state(state, spec)
    assert state.keys() == before.keys()
    assert all(np.array_equal(state[name], before[name]) for name in before)


def test_it_reports_each_fusion_and_each_reason_why_not() -> None:
    spec = LkdnSpec.lkdn_s(4)
    result = fuse_state(arrays(LKDN(spec).state_dict()), spec)
    assert len(result.applied) == 15 + 1 + 1
    assert "B1.c1_r: RBSB -> 1x1 and depthwise 3x3" in result.applied
    assert result.skipped == ()
    spec = LkdnSpec(2, 1, 4, 4, Block.BSRB)
    result = fuse_state(arrays(LKDN(spec).state_dict()), spec)
    assert result.spec.block is Block.BSRB
    assert any("not separable" in reason for reason in result.skipped)


def test_lkdn_s_fuses_to_the_tensors_that_its_authors_published(lkdn_weights: Path) -> None:
    train = load_checkpoint(lkdn_weights / "LKDN-S_x4.pth")
    published = load_checkpoint(lkdn_weights / "LKDN-S_del_rep_x4.pth")
    assert published.spec == replace(train.spec, block=Block.BSB, upsampler=Upsampler.PLAIN)
    fused, _ = fuse_branches(arrays(train.state))
    assert fused.keys() == published.state.keys()
    assert max(np.abs(fused[name] - value.numpy()).max() for name, value in published.state.items()) < 1e-6
