"""FLOPs by the rules of fvcore, which the NTIRE challenges use since 2024, against the library itself."""

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.models import find_models


@pytest.fixture
def library_flops() -> Any:
    """``library_flops(network, shape)``: what fvcore counts."""
    nn_package = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")

    def flops(network: nn.Module, shape: tuple[int, ...]) -> int:
        analysis = nn_package.FlopCountAnalysis(network.eval(), torch.rand(shape))
        analysis.unsupported_ops_warnings(False)
        analysis.uncalled_modules_warnings(False)
        return int(analysis.total())

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return flops


class Everything(nn.Module):
    """One of each operation for which fvcore has a rule that a picture's network may use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.batch = nn.BatchNorm2d(6)
        self.bare = nn.BatchNorm2d(6, affine=False)
        self.linear = nn.Linear(6, 5)
        self.register_buffer("taps", torch.rand(6, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bare(self.batch(self.up(F.relu(self.conv(x)))))
        y = (
            F.conv2d(y, self.taps, groups=6, padding=1) * F.adaptive_avg_pool2d(y, 1)
            + F.adaptive_avg_pool2d(y, 2).mean()
        )
        last = F.layer_norm(y.permute(0, 2, 3, 1), (6,))
        last = self.linear(F.layer_norm(last, (6,), torch.ones(6, device=x.device), torch.zeros(6, device=x.device)))
        z = F.interpolate(last.permute(0, 3, 1, 2), scale_factor=2)
        return F.interpolate(z, scale_factor=0.5, mode="bilinear") @ torch.ones(1, 5, 8, 4, device=x.device)


def test_each_rule_agrees_with_the_library(library_flops: Any) -> None:
    network, shape = Everything().eval(), (2, 3, 6, 8)
    assert count(network, shape).fvcore_flops == library_flops(network, shape)


@pytest.mark.parametrize("name", ["lkdn-s", "rfdn-aim", "rlfn-ntire", "efdn", "span-ch28", "pan"])
def test_networks_agree_with_the_library(name: str, library_flops: Any) -> None:
    (model,) = find_models([name], 4, [])
    network, _ = model.build_core()
    shape = (1, 3, 64, 64)
    counted = count(network, shape)
    assert counted.fvcore_flops == library_flops(network.to_empty(device="cpu"), shape)
