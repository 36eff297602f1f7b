"""RLFN, RLFN-S and the challenge entry against their known figures.

RLFN's published weights are measured in ``tests/export/test_zoo_quality.py``.
"""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.nets.rlfn import RLFN


@pytest.mark.parametrize(
    ("make", "scale", "parameters"),
    [
        (RLFN, 2, 526_856),
        (RLFN, 3, 533_891),
        (RLFN, 4, 543_740),
        (RLFN.small, 2, 454_620),
        (RLFN.small, 4, 470_208),
        (RLFN.challenge, 4, 317_218),
    ],
)
def test_parameters_are_those_of_the_published_networks(
    make: Callable[[int], RLFN], scale: int, parameters: int
) -> None:
    assert sum(value.numel() for value in make(scale).parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_gives_a_picture_of_scale_times_the_size(scale: int) -> None:
    network = RLFN(scale, channels=8, inner=6, blocks=1)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 17)).shape == (2, 3, network.smallest * scale, 17 * scale)


def test_it_takes_no_less_than_it_says() -> None:
    network = RLFN(2, channels=8, blocks=1)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.rand(1, 3, 17, network.smallest - 1))


def test_a_pixel_depends_on_the_whole_picture(sees_everything: Callable[..., bool]) -> None:
    network = RLFN(2, channels=8, blocks=1)
    assert network.receptive_radius is None
    assert sees_everything(network)
