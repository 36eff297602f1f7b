"""RFDN, RFDN-L and the challenge entry against their known figures.

The challenge entry's published weights are measured in ``tests/export/test_zoo_quality.py``.
"""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.nets.rfdn import RFDN, ChallengeRFDB


@pytest.mark.parametrize(
    ("make", "scale", "parameters"),
    [
        (RFDN, 2, 534_036),
        (RFDN, 3, 540_531),
        (RFDN, 4, 549_624),
        (RFDN.large, 2, 625_962),
        (RFDN.large, 3, 632_997),
        (RFDN.large, 4, 642_846),
        (RFDN.challenge, 4, 433_448),
    ],
)
def test_parameters_are_those_of_the_paper(make: Callable[[int], RFDN], scale: int, parameters: int) -> None:
    assert sum(value.numel() for value in make(scale).parameters()) == parameters


SMALL = {
    "paper": lambda scale: RFDN(scale, channels=16, blocks=1),
    "challenge": lambda scale: RFDN(scale, channels=8, blocks=1, block=ChallengeRFDB),
}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("form", SMALL)
def test_it_gives_a_picture_of_scale_times_the_size(form: str, scale: int) -> None:
    network = SMALL[form](scale)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 17)).shape == (2, 3, network.smallest * scale, 17 * scale)


def test_the_challenge_entry_takes_no_less_than_it_says() -> None:
    network = SMALL["challenge"](2)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.rand(1, 3, 17, network.smallest - 1))


@pytest.mark.parametrize("form", SMALL)
def test_a_pixel_depends_on_the_whole_picture(form: str, sees_everything: Callable[..., bool]) -> None:
    network = SMALL[form](2)
    assert network.receptive_radius is None
    assert sees_everything(network)
