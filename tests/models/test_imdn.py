"""IMDN against the paper's figures and its published weights."""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.evaluate import Quality
from lkdn_models.imdn import IMDN


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


def test_exported_for_every_size_it_gives_the_same(onnx_error: Callable[..., float]) -> None:
    assert onnx_error(IMDN(3, channels=16, blocks=1)) < 1e-5


def test_published_weights_have_their_quality(published: Callable[..., dict], set5: Callable[..., Quality]) -> None:
    network = IMDN(4)
    network.load_state_dict(published("IMDN/IMDN_x4.pth"))
    quality = set5(network)
    assert quality.psnr_y == pytest.approx(32.210, abs=0.005)
    assert quality.ssim_y == pytest.approx(0.8948, abs=0.0001)
