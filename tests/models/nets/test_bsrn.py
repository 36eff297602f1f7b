"""BSRN, BSRN-S and the ablation without attention against their known figures.

Their published weights are measured in ``test_published.py``, at x4 in ``tests/export/test_zoo_quality.py``.
"""

from collections.abc import Callable

import pytest
import torch

from lkdn_models.nets.bsrn import BSRN, BiasedBSConv, PlainESDB, Pointwise, SmallESDB


@pytest.mark.parametrize(
    ("make", "scale", "parameters"),
    [
        (BSRN, 2, 331_628),
        (BSRN, 3, 340_283),
        (BSRN, 4, 352_400),
        (BSRN.small, 4, 156_288),
        (BSRN.without_attention, 4, 315_248),
    ],
)
def test_parameters_are_those_of_the_published_networks(
    make: Callable[[int], BSRN], scale: int, parameters: int
) -> None:
    assert sum(value.numel() for value in make(scale).parameters()) == parameters


FORMS = {
    "paper": {"channels": 16},
    "small": {"channels": 8, "block": SmallESDB, "conv": BiasedBSConv, "pointwise": Pointwise},
    "without attention": {"channels": 8, "block": PlainESDB},
}


def small(form: str, scale: int) -> BSRN:
    return BSRN(scale, blocks=1, **FORMS[form])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("form", FORMS)
def test_it_gives_a_picture_of_scale_times_the_size(form: str, scale: int) -> None:
    network = small(form, scale)
    with torch.no_grad():
        assert network(torch.rand(2, 3, network.smallest, 17)).shape == (2, 3, network.smallest * scale, 17 * scale)


@pytest.mark.parametrize("form", ["paper", "small"])
def test_with_attention_it_takes_no_less_than_it_says(form: str) -> None:
    network = small(form, 2)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.rand(1, 3, 17, network.smallest - 1))


@pytest.mark.parametrize("form", ["paper", "small"])
def test_with_attention_a_pixel_depends_on_the_whole_picture(form: str, sees_everything: Callable[..., bool]) -> None:
    network = small(form, 2)
    assert network.receptive_radius is None
    assert sees_everything(network)


def test_without_attention_a_change_reaches_as_far_as_the_receptive_radius_and_no_further(
    reach: Callable[..., int],
) -> None:
    assert BSRN.without_attention().receptive_radius == 35
    network = small("without attention", 2)
    assert reach(network) == network.receptive_radius


def test_pointwise_is_a_linear_layer_of_each_pixel() -> None:
    torch.manual_seed(0)
    layer = Pointwise(3, 5)
    x = torch.rand(2, 3, 4, 7)
    by_pixel = torch.nn.functional.linear(x.permute(0, 2, 3, 1), layer.weight, layer.bias).permute(0, 3, 1, 2)
    assert torch.allclose(layer(x), by_pixel, atol=1e-6)
