"""LAPAR's dictionary of filters, and its weight normalisation."""

import pytest
import torch

from lkdn_models.nets.lapar import LAPAR, gaussian_dictionary

GAUSSIANS = 51


def test_the_dictionary_is_of_gaussians_and_their_differences() -> None:
    filters = gaussian_dictionary()
    assert filters.shape == (72, 5, 5)
    assert torch.allclose(filters.sum(dim=(1, 2)), torch.ones(72, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(filters, filters.flip(1, 2), atol=1e-14)
    plain, differences = filters[:GAUSSIANS], filters[GAUSSIANS:]
    assert (plain > 0).all()
    assert torch.allclose(differences.clamp(max=0).sum(dim=(1, 2)), torch.tensor(-0.4, dtype=torch.float64))
    assert (differences[:, 2, 2] < 0).all()
    assert len(torch.unique(filters.flatten(1).round(decimals=9), dim=0)) == 72


def test_turned_by_a_right_angle_the_dictionary_is_the_same() -> None:
    filters = gaussian_dictionary()
    turned = torch.rot90(filters, dims=(1, 2))
    distance = (filters[:, None] - turned[None]).abs().amax(dim=(2, 3))
    assert distance.amin(dim=1).max() < 1e-14


@pytest.mark.parametrize(("scale", "parameters"), [(2, 546_386), (3, 592_626), (4, 657_362)])
def test_folding_leaves_the_function_and_fewer_parameters(scale: int, parameters: int) -> None:
    torch.manual_seed(0)
    network = LAPAR(scale).eval()
    for name, value in network.named_parameters():
        if name.endswith("original0"):  # the gains: as large as the weights at first
            value.data.mul_(torch.rand_like(value) + 0.5)
    x = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        expected = network(x)
        network.fold()
        assert torch.allclose(network(x), expected, atol=1e-6)
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_a_checkpoint_in_the_authors_names_brings_its_own_dictionary() -> None:
    network = LAPAR(2, channels=4, blocks=1)
    renames = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for name, value in network.state_dict().items():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        state[name] = torch.full_like(value, 0.25)
    assert {"w_conv.head.0.weight_g", "w_conv.head.0.weight_v", "w_conv.rgb_mean"} < state.keys()
    network.load_state_dict(state)
    assert (network.decom_conv.weight == 0.25).all()
    assert all((value == 0.25).all() for value in network.state_dict().values())


def test_every_pixel_is_filtered_by_its_own_mixture() -> None:
    torch.manual_seed(0)
    dictionary = torch.rand(3, 3, 3, dtype=torch.float64).float()
    mixer = LAPAR(2, channels=4, blocks=1, dictionary=dictionary).decom_conv
    weights, image = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5)
    out = mixer(weights, image)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="reflect")
    for row in range(4):
        for column in range(5):
            kernel = (weights[0, :, row, column, None, None] * dictionary).sum(dim=0)
            expected = (padded[0, :, row : row + 3, column : column + 3] * kernel).sum(dim=(1, 2))
            assert torch.allclose(out[0, :, row, column], expected, atol=1e-5)
