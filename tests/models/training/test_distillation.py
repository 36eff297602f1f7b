"""Distillation: what a teacher adds to the loss, and which teachers are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.data import CropSettings
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.distillation import Teacher
from lkdn_models.training.learner import Learner
from lkdn_models.training.online import merger
from lkdn_models.training.recipe import Distillation, Optimisation, Recipe
from lkdn_models.training.train import Places, train

SMALL = replace(LkdnSpec.lkdn_s(2), blocks=2, channels=8, attention_channels=8)
CPU = torch.device("cpu")


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    """A small network in training form, with weights of its own."""
    torch.manual_seed(3)
    weights = dict(LKDN(SMALL).named_parameters())
    save_checkpoint(
        tmp_path / "teacher.safetensors", SMALL, {name: value.detach() for name, value in weights.items()}, 1
    )
    return tmp_path / "teacher.safetensors"


def recipe(distillation: Distillation, iterations: int = 1, graphics: float = 0.0) -> Recipe:
    data = CropSettings(patch=12, batch=4, graphics=graphics)
    return Recipe(SMALL, data, Optimisation(iterations, learning_rate=5e-3), distillation, seed=5)


def learner(distillation: Distillation, file: Path, init: Path | None = None) -> Learner:
    teacher = Teacher(load_checkpoint(file), SMALL, distillation, CPU)
    return Learner(recipe(distillation), CPU, load_checkpoint(init) if init else None, teacher)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 12, 12, generator=generator), torch.rand(2, 3, 24, 24, generator=generator)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_output_of_the_teacher_counts_by_its_share(teacher_file: Path, share: float) -> None:
    low, high = batch()
    found = learner(Distillation(output=share), teacher_file)
    student = LKDN(SMALL.deployed)
    student.load_state_dict(merger(SMALL)(found.weights))
    output, taught = student(low), load_checkpoint(teacher_file).build()(low)
    expected = share * nn.functional.l1_loss(output, taught) + (1 - share) * nn.functional.l1_loss(output, high)
    assert found.differentiate(low, high) == pytest.approx(expected.item(), rel=1e-5)


def test_flat_crops_are_compared_with_the_original_alone(teacher_file: Path) -> None:
    low, high = torch.full((1, 3, 12, 12), 0.3), torch.full((1, 3, 24, 24), 0.3)
    found = learner(Distillation(output=1.0), teacher_file)
    student = LKDN(SMALL.deployed)
    student.load_state_dict(merger(SMALL)(found.weights))
    assert found.differentiate(low, high) == pytest.approx(nn.functional.l1_loss(student(low), high).item(), rel=1e-5)


def test_what_the_blocks_give_counts_relative_to_what_the_teachers_blocks_add(teacher_file: Path) -> None:
    low, high = batch()
    low[1], high[1] = 0.3, 0.3  # a flat crop, which is learned from the original alone
    plain, taught = (learner(Distillation(output=0.5, features=weight), teacher_file) for weight in (0.0, 2.0))
    student = LKDN(SMALL.deployed)
    student.load_state_dict(merger(SMALL)(taught.weights))
    mine, wanted = student.features(low), load_checkpoint(teacher_file).build().features(low)
    errors = [
        (mine[i][0] - wanted[i][0]).square().sum() / (wanted[i][0] - wanted[i - 1][0]).square().sum() for i in (1, 2)
    ]
    expected = plain.differentiate(low, high) + 2.0 * sum(errors).item() / 2
    assert taught.differentiate(low, high) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "distillation", [Distillation(output=1.0), Distillation(output=1.0, features=1.0), Distillation(blocks=True)]
)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher_file: Path, distillation: Distillation) -> None:
    assert learner(distillation, teacher_file, teacher_file).differentiate(*batch()) < 1e-5


@pytest.mark.long
def test_blocks_that_learn_side_by_side_make_the_network_like_its_teacher(teacher_file: Path) -> None:
    found = learner(Distillation(blocks=True), teacher_file)
    teacher = load_checkpoint(teacher_file).build()
    low = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(2))

    def distance() -> float:
        student = LKDN(SMALL.deployed)
        student.load_state_dict(merger(SMALL)({name: value.detach() for name, value in found.weights.items()}))
        return nn.functional.l1_loss(student(low), teacher(low)).item()

    before = distance()
    generator = torch.Generator().manual_seed(4)
    for step in range(300):
        found.differentiate(torch.rand(2, 3, 12, 12, generator=generator), torch.zeros(2, 3, 24, 24))
        found.update(step, 5e-3)
    assert distance() < before / 4


@pytest.mark.parametrize("distillation", [Distillation(blocks=True), Distillation(features=0.1)])
def test_a_teacher_that_does_not_fit_is_refused(teacher_file: Path, distillation: Distillation) -> None:
    checkpoint = load_checkpoint(teacher_file)
    with pytest.raises(UsageError, match="enlarges by 3"):
        Teacher(checkpoint, replace(SMALL, scale=3), Distillation(output=0.5), CPU)
    with pytest.raises(UsageError, match="other widths"):
        Teacher(checkpoint, replace(SMALL, channels=12), distillation, CPU)
    Teacher(checkpoint, replace(SMALL, channels=12), Distillation(output=0.5), CPU)


@pytest.mark.parametrize(
    "settings",
    [
        {"output": 1.5},
        {"output": -0.1},
        {"output": 0.5, "blocks": True},
        {"features": -1},
        {"features": 101},
        {"features": 0.1, "blocks": True},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"output|features"):
        Distillation(**settings)  # type: ignore[arg-type]


def test_flat_pictures_in_colours_of_the_batch_count_by_their_weight() -> None:
    low, high = batch()
    low[0, 0, 0, 0] = 5.5 / 255
    plain = recipe(Distillation())
    weighed = replace(plain, optimisation=replace(plain.optimisation, flat=0.5))
    student = LKDN(SMALL.deployed)
    student.load_state_dict(merger(SMALL)(Learner(plain, CPU).weights))
    colours = low[:, :, :1, :1]
    expected = nn.functional.mse_loss(student(colours.expand(-1, -1, 6, 6)), colours.expand(-1, -1, 12, 12)).item()
    losses = [Learner(one, CPU).differentiate(low, high) for one in (plain, weighed)]
    assert losses[1] - losses[0] == pytest.approx(0.5 * expected, rel=1e-4)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for folder, seed in (("photos", 0), ("drawings", 1)):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    return tmp_path


def test_a_run_learns_from_a_teacher_and_drawings(pictures: Path, teacher_file: Path) -> None:
    places = Places(
        [pictures / "photos"], pictures / "run", (), [pictures / "drawings"], None, teacher_file, pictures / "cache"
    )
    wanted = recipe(Distillation(output=0.5), iterations=2, graphics=0.5)
    assert train(wanted, places)
    assert train(wanted, places, resume=True)


def test_a_run_with_hard_crops_resumes_as_if_it_had_not_stopped(pictures: Path, teacher_file: Path) -> None:
    wanted = recipe(Distillation(output=0.5), iterations=4)
    wanted = replace(wanted, data=replace(wanted.data, hard=0.5), save_every=2)
    places = Places([pictures / "photos"], pictures / "run", teacher=teacher_file, cache=pictures / "cache")
    expected = load_checkpoint(train(wanted, places)).state
    (pictures / "run" / "states" / "000000004.pt").unlink()
    found = load_checkpoint(train(wanted, places, resume=True)).state
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    (pictures / "run" / "lags.npy").unlink()
    with pytest.raises(InputError, match=r"lags\.npy cannot be read"):
        train(wanted, places, resume=True)


def test_hard_crops_need_a_teacher() -> None:
    plain = recipe(Distillation())
    with pytest.raises(UsageError, match="no teacher"):
        replace(plain, data=replace(plain.data, hard=0.5))


@pytest.mark.parametrize("name", ["teacher", "graphics"])
def test_what_the_recipe_asks_for_must_be_given_and_nothing_else(pictures: Path, teacher_file: Path, name: str) -> None:
    given = Places([pictures / "photos"], pictures / "run", cache=pictures / "cache")
    plain = recipe(Distillation())
    asking = recipe(Distillation(output=0.5)) if name == "teacher" else recipe(Distillation(), graphics=0.5)
    with pytest.raises(UsageError, match=f"asks for {name}"):
        train(asking, given)
    extra = {"teacher": teacher_file} if name == "teacher" else {"graphics": [pictures / "drawings"]}
    with pytest.raises(UsageError, match=f"no use for {name}"):
        train(plain, replace(given, **extra))
