"""Published weights in PyTorch, on Set5.

Those at x4 are measured in ``tests/export/test_zoo_quality.py``, LKDN's in ``tests/export/test_published.py``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lkdn_models.checkpoint import WRAPPERS
from lkdn_models.nets.bsrn import BSRN
from lkdn_models.nets.pan import PAN
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.training.evaluate import LumaQuality, in_torch, mean, measure, open_set

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def published(data: Path) -> Callable[[str], State]:
    """Reads a file under ``weights``: the state dict without its wrappers, of several that of the EMA weights."""

    def read(file: str) -> State:
        raw = torch.load(data / "weights" / file, map_location="cpu", weights_only=True)
        for wrapper in WRAPPERS:
            raw = raw.get(wrapper, raw)
        return {name.removeprefix("module."): value for name, value in raw.items()}

    return read


class _Unit(nn.Module):
    """A network of whatever value range as one of 0..1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.network.peak * x) / self.network.peak


@pytest.fixture(scope="session")
def set5(data: Path) -> Callable[[nn.Module], LumaQuality]:
    """Mean quality of an RGB network on Set5."""

    def quality(network: nn.Module) -> LumaQuality:
        return mean(measure(in_torch(_Unit(network).eval()), open_set(data / "testsets" / "Set5", network.scale)))

    return quality


@pytest.mark.parametrize(
    ("file", "make", "scale", "psnr", "ssim"),
    [
        ("BSRN/net_g_BSRN_x2.pth", BSRN, 2, 38.083, 0.9608),
        ("BSRN/net_g_BSRN_x3.pth", BSRN, 3, 34.450, 0.9276),
        ("PAN/PANx2_DF2K.pth", PAN, 2, 38.001, 0.9605),
        ("PAN/PANx3_DF2K.pth", PAN, 3, 34.400, 0.9272),
        ("VapSR/VapSR_X2.pth", VAPSR, 2, 38.107, 0.9609),
        ("VapSR/VapSR_X3.pth", VAPSR, 3, 34.525, 0.9281),
    ],
)
def test_published_weights_have_their_quality(
    file: str,
    make: Callable[[int], nn.Module],
    scale: int,
    psnr: float,
    ssim: float,
    published: Callable[[str], State],
    set5: Callable[[nn.Module], LumaQuality],
) -> None:
    network = make(scale)
    network.load_state_dict(published(file))
    quality = set5(network)
    assert quality.psnr_y == pytest.approx(psnr, abs=0.005)
    assert quality.ssim_y == pytest.approx(ssim, abs=0.0001)
