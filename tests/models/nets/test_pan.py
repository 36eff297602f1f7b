"""PAN against the paper's figures, its published weights and its own reach.

Its published weights are measured in ``test_published.py``, at x4 in ``tests/export/test_zoo_quality.py``.
"""

from collections.abc import Callable

import pytest
import torch

from lkdn_deploy.core.errors import UsageError
from lkdn_models.nets.pan import PAN


@pytest.mark.parametrize(("scale", "parameters"), [(2, 261_403), (3, 261_403), (4, 272_419)])
def test_parameters_are_those_of_the_paper(scale: int, parameters: int) -> None:
    assert sum(value.numel() for value in PAN(scale).parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_gives_a_picture_of_scale_times_the_size(scale: int) -> None:
    network = PAN(scale, channels=8, blocks=1)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 7)).shape == (2, 3, network.smallest * scale, 7 * scale)


def test_a_scale_that_it_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match=r"PAN has no x5 \(it has x2, x3, x4\)"):
        PAN(5)


@pytest.mark.parametrize(("scale", "radius"), [(2, 36), (3, 35), (4, 36)])
def test_a_change_reaches_as_far_as_the_receptive_radius_and_no_further(
    scale: int, radius: int, reach: Callable[..., int]
) -> None:
    assert PAN(scale).receptive_radius == radius
    small = PAN(scale, channels=8, blocks=2)
    assert reach(small) == small.receptive_radius
