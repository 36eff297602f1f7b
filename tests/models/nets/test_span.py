"""SPAN and its descendants: what a re-implementation of them gets wrong."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.nets.conv3xc import Conv3XC
from lkdn_models.nets.reprlfn import ActivatedConv
from lkdn_models.nets.span import MEAN, SPAB, SPAN
from lkdn_models.training.evaluate import ValidationSet, in_torch, mean, measure, open_set


@pytest.fixture(scope="module")
def narrow(data: Path) -> SPAN:
    """The published SPAN with 28 channels."""
    return load_checkpoint(data / "weights" / "NTIRE2024" / "team38_span_ch28_slim.pth").build()


@pytest.fixture(scope="module")
def woman(data: Path) -> ValidationSet:
    pictures = open_set(data / "testsets" / "Set5", 4)
    return ValidationSet("woman", pictures.pairs[-1:])


def quality(network: SPAN, pictures: ValidationSet) -> float:
    return mean(measure(in_torch(network), pictures)).psnr_y


def unactivated(self: SPAB, x: Tensor) -> tuple[Tensor, Tensor]:
    """The block, if its first activation were not in place."""
    y, _ = FORWARD(self, x)
    return y, self.c1_r(x)


FORWARD = SPAB.forward


def test_what_a_block_hands_on_is_activated(
    narrow: SPAN, woman: ValidationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quality(narrow, woman) == pytest.approx(30.059, abs=0.005)
    monkeypatch.setattr(SPAB, "forward", unactivated)
    assert quality(narrow, woman) < 27


@pytest.mark.long
def test_without_the_activation_in_place_set5_falls_from_32_20_to_24_27_db(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_checkpoint(data / "weights" / "SPAN" / "spanx4_ch48.safetensors").build()
    set5 = open_set(data / "testsets" / "Set5", 4)
    assert quality(network, set5) == pytest.approx(32.203, abs=0.005)
    monkeypatch.setattr(SPAB, "forward", unactivated)
    assert quality(network, set5) == pytest.approx(24.27, abs=0.01)


def test_values_are_multiplied_by_255_and_no_mean_is_added_back(narrow: SPAN, woman: ValidationSet) -> None:
    right = quality(narrow, woman)
    mean_colour = colour()

    class InUnits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = narrow

        def forward(self, x: Tensor) -> Tensor:
            return narrow((x - mean_colour) / 255 + mean_colour)

    class Added(InUnits):
        def forward(self, x: Tensor) -> Tensor:
            return narrow(x) + mean_colour

    assert quality(InUnits(), woman) < right - 5
    assert quality(Added(), woman) < right - 5


def test_the_mean_cannot_be_folded_into_the_first_bias_because_of_the_border() -> None:
    torch.manual_seed(0)
    network = SPAN(2, channels=8, blocks=1).double().eval()
    first = network.conv_1.eval_conv
    x = torch.rand(1, 3, 24, 24, dtype=torch.float64)
    with torch.no_grad():
        exact = network(x)
        shift = network.mean.flatten()
        first.bias -= 255 * (first.weight.sum((2, 3)) @ shift)
        network.mean.zero_()
        folded = network(x)
    inner = slice(2 * network.receptive_radius, -2 * network.receptive_radius)
    assert torch.allclose(folded[..., inner, inner], exact[..., inner, inner], rtol=0, atol=1e-10)
    assert (folded - exact)[..., :2, :].abs().max() > 1e-3


def test_a_picture_without_norm_is_taken_as_it_is() -> None:
    torch.manual_seed(0)
    plain, shifted = SPAN(2, channels=8, blocks=1, norm=0), SPAN(2, channels=8, blocks=1)
    shifted.load_state_dict({name: value for name, value in plain.state_dict().items() if name != "no_norm"})
    x = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        assert torch.allclose(plain((x - colour()) * 255), shifted(x), atol=1e-4)


def colour() -> Tensor:
    return torch.tensor(MEAN)[None, :, None, None]


def test_the_training_form_ignores_the_merged_convolution_beside_it() -> None:
    torch.manual_seed(0)
    conv, x = Conv3XC(3, 5, 2), torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        before = conv(x)
        conv.eval_conv.weight.fill_(9)
        assert torch.equal(conv(x), before)


def test_reprlfn_activates_twice() -> None:
    torch.manual_seed(0)
    conv, x = ActivatedConv(3, 4), torch.rand(1, 3, 6, 7) - 0.5
    with torch.no_grad():
        once = conv(x)
        assert torch.allclose(F.leaky_relu(once, 0.05), F.leaky_relu(conv.rbr_reparam(x), 0.0025))
