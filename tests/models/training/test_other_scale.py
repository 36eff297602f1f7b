"""Training from weights of another scale: what is taken over, and the up-sampler that is fitted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.data import CropSource, open_photos
from lkdn_models.training.learner import Learner
from lkdn_models.training.online import OnlineLKDN
from lkdn_models.training.recipe import Recipe, find_recipe, read_recipe
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.train import Places, train

CPU = torch.device("cpu")
TINY = read_recipe(find_recipe("tiny"))


def recipe(iterations: int, scale: int, spec: LkdnSpec = TINY.network) -> Recipe:
    optimisation = replace(TINY.optimisation, iterations=iterations, tail=0.0)
    return replace(TINY, log_every=1, network=replace(spec, scale=scale), optimisation=optimisation)


def first_loss(run: Path) -> float:
    return next(entry["loss"] for entry in RunFolder(run).read_log() if "loss" in entry)


@pytest.fixture
def small(photos: Path, tmp_path: Path) -> Path:
    """Weights of a short training at x2."""
    weights = train(recipe(40, 2), Places([photos], tmp_path / "x2"))
    assert weights
    return weights


def test_weights_of_another_scale_give_all_but_the_upsampler(small: Path) -> None:
    start = Learner(recipe(1, 3), CPU, load_checkpoint(small)).weights
    fresh = Learner(recipe(1, 3), CPU).weights
    state = load_checkpoint(small).state
    for name, value in start.items():
        assert torch.equal(value, fresh[name] if name.startswith("upsampler.") else state[name]), name


@pytest.mark.parametrize("spec", [TINY.network, TINY.network.deployed])
def test_a_fitted_upsampler_has_the_least_squared_error(photos: Path, tmp_path: Path, spec: LkdnSpec) -> None:
    wanted = recipe(1, 3, spec)
    learner = Learner(wanted, CPU)
    before = {name: value.clone() for name, value in learner.weights.items()}
    source = CropSource(open_photos([photos], 3, wanted.data, 0, tmp_path).training, 3, wanted.data, 0)
    crops = [source.batch(index) for index in range(20)]

    def error() -> torch.Tensor:
        outputs = torch.cat([OnlineLKDN(wanted.network)(learner.weights, low) for low, _ in crops])
        return (outputs - torch.cat([high for _, high in crops])).square().mean()

    random = error().item()
    learner.fit_upsampler(iter(crops))
    fitted = error()
    assert fitted.item() < random / 10
    kept = {name for name, value in learner.weights.items() if torch.equal(value, before[name])}
    assert kept >= {name for name in before if not name.startswith("upsampler.")}
    fitted.backward()  # type: ignore[no-untyped-call]
    for name, value in learner.weights.items():
        assert torch.equal(value, learner.ema.average[name])
        if name.startswith("upsampler."):  # the error is least where its slope vanishes
            assert value.grad is not None
            assert value.grad.abs().max() < 1e-4


def test_a_run_from_weights_of_another_scale_starts_with_a_fitted_upsampler(
    photos: Path, tmp_path: Path, small: Path
) -> None:
    train(recipe(1, 3), Places([photos], tmp_path / "x3", init=small))
    train(recipe(1, 3), Places([photos], tmp_path / "random"))
    assert first_loss(tmp_path / "x3") < first_loss(tmp_path / "random") / 2
