"""The reference networks against the paper's figures and their own receptive field."""

import pytest
import torch

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.fuse.state_dict import fuse_branches
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.zoo import ZooEntry, all_entries


def parameters(spec: LkdnSpec) -> int:
    return sum(parameter.numel() for parameter in LKDN(spec).parameters())


@pytest.mark.parametrize(
    "entry", [entry for entry in all_entries() if entry.spec], ids=lambda entry: f"{entry.name}-x{entry.scale}"
)
def test_parameters_are_those_of_the_paper(entry: ZooEntry) -> None:
    state = {name: value.numpy() for name, value in LKDN(entry.spec).state_dict().items()}
    # The published files keep the four input copies; reading the input once saves their weights.
    fused, _ = fuse_branches(state)
    assert sum(value.size for value in fused.values()) == entry.parameters


def test_parameters_of_training_forms_and_of_the_ablation_with_a_narrow_attention() -> None:
    assert parameters(LkdnSpec.lkdn_s(4)) == 172_449
    assert parameters(LkdnSpec(4, 5, 42, 42, Block.RBSB)) == 130_437
    assert parameters(LkdnSpec(4, 8, 64, 32)) == 321_904


@pytest.mark.parametrize("upsampler", Upsampler)
@pytest.mark.parametrize("block", Block)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_form_gives_an_image_of_scale_times_the_size(scale: int, block: Block, upsampler: Upsampler) -> None:
    network = LKDN(LkdnSpec(scale, 1, 8, 6, block, upsampler))
    with torch.no_grad():
        assert network(torch.rand(2, 3, 5, 7)).shape == (2, 3, 5 * scale, 7 * scale)
