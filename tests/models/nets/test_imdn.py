"""IMDN against the paper's figures; its published weights are measured in ``tests/export/test_zoo_quality.py``."""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.nets.imdn import IMDN


@pytest.mark.parametrize(("scale", "parameters"), [(2, 694_404), (3, 703_059), (4, 715_176)])
def test_parameters_are_those_of_the_paper(scale: int, parameters: int) -> None:
    assert sum(value.numel() for value in IMDN(scale).parameters()) == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_gives_a_picture_of_scale_times_the_size(scale: int) -> None:
    network = IMDN(scale, channels=16, blocks=1)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 7)).shape == (2, 3, network.smallest * scale, 7 * scale)


def test_a_pixel_depends_on_the_whole_picture(sees_everything: Callable[..., bool]) -> None:
    network = IMDN(2, channels=16, blocks=1)
    assert network.receptive_radius is None
    assert sees_everything(network)
