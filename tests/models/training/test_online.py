"""Training through merged weights is training of the branch form."""

import pytest
import torch

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.online import OnlineLKDN, merger


@pytest.mark.parametrize("block", list(Block))
@pytest.mark.parametrize("upsampler", list(Upsampler))
def test_merged_training_equals_the_branch_form_in_outputs_and_gradients(block, upsampler):
    torch.manual_seed(0)
    spec = LkdnSpec(3, 2, 10, 8, block=block, upsampler=upsampler)
    branches = LKDN(spec).double()
    weights = dict(branches.named_parameters())
    x, target = torch.rand(2, 3, 9, 11).double(), torch.rand(2, 3, 27, 33).double()
    outputs = branches(x), OnlineLKDN(spec)(weights, x)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad((y - target).abs().mean(), list(weights.values())) for y in outputs]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert merger(spec)(weights).keys() == LKDN(spec.deployed).state_dict().keys()
