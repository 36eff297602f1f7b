"""Adan against the paper's formulas worked by hand, and the weight average."""

import pytest
import torch

from lkdn_deploy.core.errors import UsageError
from lkdn_models.training.optim import Adan, Ema


def test_adan_takes_the_papers_first_three_steps():
    # One weight, betas 1/2, 1/4, 1/2, lr 1, gradients 2, 1, 3; eps too small to show.
    #   t=1  m = 1      v = 0                 n = 4/2 = 2
    #        (1 / (1/2) + 0) / sqrt(2 / (1/2))             = 2 / 2
    #   t=2  m = 1      v = 3/4 * -1 = -3/4   n = 1 + (1 - 1/4)^2 / 2 = 1.28125
    #        (1 / (3/4) - 1/4 * 3/4 / (15/16)) / sqrt(1.28125 / (3/4))
    #   t=3  m = 2      v = -3/16 + 3/2       n = 0.640625 + (3 + 2/4)^2 / 2 = 6.765625
    #        (2 / (7/8) + 1/4 * 1.3125 / (63/64)) / sqrt(6.765625 / (7/8))
    first = 1.0
    second = (4 / 3 - 0.2) / (1.28125 * 4 / 3) ** 0.5
    third = (16 / 7 + 1 / 3) / (6.765625 * 8 / 7) ** 0.5
    weight = torch.tensor([10.0], dtype=torch.float64, requires_grad=True)
    adan = Adan([weight], lr=1.0, betas=(0.5, 0.25, 0.5), eps=1e-300)
    seen = []
    for gradient in (2.0, 1.0, 3.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        adan.step()
        seen.append(weight.item())
    assert seen == pytest.approx([10 - first, 10 - first - second, 10 - first - second - third], abs=1e-12)


def test_weight_decay_is_decoupled_from_the_gradient():
    weight = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    Adan([weight], lr=0.1, weight_decay=2.0).step()
    assert weight.item() == pytest.approx(3.0 / 1.2)


def test_state_dict_carries_the_step_count():
    def run(split: bool) -> float:
        weight = torch.tensor([1.0], requires_grad=True)
        adan = Adan([weight], lr=0.1)
        for step in range(6):
            if split and step == 3:
                saved, adan = adan.state_dict(), Adan([weight], lr=0.1)
                adan.load_state_dict(saved)
            weight.grad = torch.tensor([float(step % 3) - 0.5])
            adan.step()
        return weight.item()

    assert run(split=True) == run(split=False)


@pytest.mark.parametrize("setting", [{"lr": -1.0}, {"lr": 0.1, "eps": 0.0}, {"lr": 0.1, "betas": (0.9, 1.0, 0.9)}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UsageError, match="Adan needs"):
        Adan([torch.zeros(1, requires_grad=True)], **setting)


def test_ema_forgets_its_start_quickly_and_then_keeps_its_decay():
    ema = Ema({"w": torch.tensor([0.0])}, decay=0.9)
    ema.update({"w": torch.tensor([11.0])}, step=1)
    assert ema.average["w"].item() == pytest.approx(9.0)  # keeps 2/11
    ema.update({"w": torch.tensor([19.0])}, step=10_000)
    assert ema.average["w"].item() == pytest.approx(10.0)  # keeps 0.9
