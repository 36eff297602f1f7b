"""What the reference networks are held against: published weights, the papers' protocol, their own reach."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lkdn_models.checkpoint import WRAPPERS
from lkdn_models.evaluate import Quality, in_torch, mean, measure, open_set

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
def set5(data: Path) -> Callable[[nn.Module], Quality]:
    """Mean quality of an RGB network on Set5."""

    def quality(network: nn.Module) -> Quality:
        return mean(measure(in_torch(_Unit(network).eval()), open_set(data / "testsets" / "Set5", network.scale)))

    return quality


def _draw(network: nn.Module) -> None:
    """Weights and whatever is drawn next, the same each time."""
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


@pytest.fixture(scope="session")
def reach() -> Callable[..., int]:
    """How far a network's output sees, in LR pixels, of a picture that goes 2 pixels beyond its receptive radius.

    That something changes with the pixel at the answer is told by the derivative: the change of the output itself is
    lost in rounding after so many layers. Beyond the answer another picture changes nothing at all.
    """

    def measured(network: nn.Module, channels: int = 3) -> int:
        _draw(network)
        network, scale, size = network.double().eval(), network.scale, 2 * network.receptive_radius + 5
        x = torch.rand(1, channels, size, size, dtype=torch.float64, requires_grad=True)
        middle = size // 2
        inside = slice(scale * middle, scale * (middle + 1))
        pixel = network(x)[:, :, inside, inside]
        (slope,) = torch.autograd.grad((pixel * torch.rand_like(pixel)).sum(), x)
        rows, columns = (index - middle for index in torch.nonzero(slope[0].sum(0), as_tuple=True))
        reached = int(max(rows.abs().max(), columns.abs().max()))
        other = torch.rand_like(x)
        near = slice(middle - reached, middle + reached + 1)
        with torch.no_grad():
            other[:, :, near, near] = x[:, :, near, near]
            assert torch.equal(network(other)[:, :, inside, inside], pixel)
        return reached

    return measured


@pytest.fixture(scope="session")
def sees_everything() -> Callable[[nn.Module], bool]:
    """Whether a picture's left part hangs on what lies further to the right than any convolution of it reaches."""

    def asked(network: nn.Module) -> bool:
        _draw(network)
        network = network.double().eval()
        x = torch.rand(1, 3, 16, 400, dtype=torch.float64)
        with torch.no_grad():
            whole, part = (network(picture)[..., : 100 * network.scale] for picture in (x, x[..., :390]))
        return not torch.allclose(whole, part, rtol=0, atol=1e-12)

    return asked
