"""Networks made of functions."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from lkdn_deploy.bench.complexity.trace import Operation, trace


class Call(nn.Module):
    """A network that calls a function with its input and with the layers it is given."""

    def __init__(self, function: Callable[..., object], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> object:
        return self.function(x, *self.layers)


@pytest.fixture(scope="session")
def call() -> type[Call]:
    return Call


@pytest.fixture(scope="session")
def of() -> Callable[..., tuple[Operation, ...]]:
    """Traces a function of an input with 4 channels of 6x8 pixels, and of layers."""
    return lambda function, *layers: trace(Call(function, *layers), (1, 4, 6, 8))


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the run that follows the memory, which takes half of the time of a count."""
    monkeypatch.setattr("lkdn_deploy.bench.complexity.count.peak_floats", lambda network, shape: 0)
