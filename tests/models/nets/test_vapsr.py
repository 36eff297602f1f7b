"""VAPSR and VAPSR-S against their known figures, published weights and own reach.

Its published weights are measured in ``test_published.py``, at x4 in ``tests/export/test_zoo_quality.py``.
"""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.nets.vapsr import VAPSR


@pytest.mark.parametrize(
    ("make", "scale", "parameters"),
    [(VAPSR, 2, 329_236), (VAPSR, 3, 336_811), (VAPSR, 4, 342_220), (VAPSR.small, 4, 154_956)],
)
def test_parameters_are_those_of_the_published_networks(
    make: Callable[[int], VAPSR], scale: int, parameters: int
) -> None:
    assert sum(value.numel() for value in make(scale).parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_gives_a_picture_of_scale_times_the_size(scale: int) -> None:
    network = VAPSR(scale, channels=8, blocks=1, groups=2)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 7)).shape == (2, 3, network.smallest * scale, 7 * scale)


@pytest.mark.parametrize(
    ("make", "scale", "radius"), [(VAPSR, 2, 164), (VAPSR, 3, 164), (VAPSR, 4, 172), (VAPSR.small, 4, 92)]
)
def test_receptive_radius(make: Callable[[int], VAPSR], scale: int, radius: int) -> None:
    assert make(scale).receptive_radius == radius


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_change_reaches_as_far_as_the_receptive_radius_and_no_further(scale: int, reach: Callable[..., int]) -> None:
    network = VAPSR(scale, channels=8, blocks=2)
    assert reach(network) == network.receptive_radius
