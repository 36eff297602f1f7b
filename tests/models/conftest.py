"""Measurements of the reach of networks."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


def _draw(network: nn.Module) -> None:
    """Draw the same weights, and the same random numbers next, each time."""
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


@pytest.fixture(scope="session")
def reach() -> Callable[..., int]:
    """Return the reach of a network in LR pixels, on a picture that goes 2 pixels beyond its receptive radius.

    The derivative shows that the pixels up to there matter: the change of the output itself is lost in rounding after
    so many layers. Beyond it, another picture changes nothing at all.
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
    """Return whether a picture's left part depends on pixels further to the right than its convolutions reach."""

    def asked(network: nn.Module) -> bool:
        _draw(network)
        network = network.double().eval()
        x = torch.rand(1, 3, 16, 400, dtype=torch.float64)
        with torch.no_grad():
            whole, part = (network(picture)[..., : 100 * network.scale] for picture in (x, x[..., :390]))
        return not torch.allclose(whole, part, rtol=0, atol=1e-12)

    return asked
