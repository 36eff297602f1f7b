"""The training loop on a folder of small made-up photographs, and the merged weights it trains through."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.resample import downsample
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.evaluate import in_torch, mean_psnr_y
from lkdn_models.lkdn import LKDN
from lkdn_models.online import OnlineLKDN, merge, plain_spec
from lkdn_models.train import Optimisation, read_recipe, train

RECIPES = Path(str(files("lkdn_models") / "recipes"))
TINY = RECIPES / "tiny.toml"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of overlapping discs with sharp edges on a slope of colour."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:96, 0:96]
    for number in range(6):
        image = 60 + rng.uniform(0, 1, 3) * y[..., None] + rng.uniform(0, 1, 3) * x[..., None]
        for _ in range(25):
            (cy, cx), radius = rng.uniform(0, 96, 2), rng.uniform(3, 20)
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """More threads take sums in another order, and are slow beyond measure where other work holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(**changes):
    recipe = read_recipe(TINY)
    return replace(recipe, optimisation=replace(recipe.optimisation, **changes))


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def command(*arguments, processes=0):
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes else []
    return [sys.executable, "-m", *launcher, "lkdn_models.train", *map(str, arguments)]


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def assert_same_weights(one, other):
    mine, theirs = load_checkpoint(one).state, load_checkpoint(other).state
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


def test_tiny_recipe_learns_more_than_to_repeat_pixels(photos, tmp_path):
    weights = train(read_recipe(TINY), photos, tmp_path / "run")
    repeated = []
    for path in photos.iterdir():
        high = np.asarray(Image.open(path))
        repeated.append(psnr_y(downsample(high, 2).repeat(2, axis=0).repeat(2, axis=1), high, border=2))
    checkpoint = load_checkpoint(weights)
    assert checkpoint.spec == read_recipe(TINY).network
    assert mean_psnr_y(in_torch(checkpoint.build()), 2, photos) > np.mean(repeated)
    entries = log(tmp_path / "run")
    assert [entry["step"] for entry in entries] == list(range(25, 301, 25))
    assert entries[-1]["loss"] < entries[0]["loss"] / 2
    assert set(entries[0]) == {"step", "loss", "lr", "grad_norm", "images_per_s"}


def test_a_run_stopped_by_a_signal_and_resumed_is_bit_identical(photos, tmp_path):
    recipe = replace(tiny(iterations=60), log_every=1)
    text = TINY.read_text().replace("log_every = 25", "log_every = 1")
    (tmp_path / "recipe.toml").write_text(text)
    cut = command(tmp_path / "recipe.toml", "--data", photos, "--out", tmp_path / "cut", "--iterations", 60)
    with subprocess.Popen(cut, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 60
        while not (tmp_path / "cut" / "log.jsonl").exists() and time.monotonic() < limit:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "--resume" in said
    assert 0 < torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"] < 60
    resumed = train(recipe, photos, tmp_path / "cut", resume=True)
    assert_same_weights(resumed, train(recipe, photos, tmp_path / "whole"))


def test_two_processes_learn_what_one_does(photos, tmp_path):
    shared = command(TINY, "--data", photos, "--out", tmp_path / "two", "--iterations", 5, processes=2)
    subprocess.run(shared, env=environment(), check=True, capture_output=True)
    one = load_checkpoint(train(tiny(iterations=5), photos, tmp_path / "one")).state
    two = load_checkpoint(tmp_path / "two" / "weights.safetensors").state
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    assert log(tmp_path / "two")[-1]["loss"] == pytest.approx(log(tmp_path / "one")[-1]["loss"], rel=1e-4)


def test_a_run_can_be_told_a_new_total(photos, tmp_path):
    recipe = replace(tiny(iterations=4), save_every=2)
    train(recipe, photos, tmp_path)
    train(replace(recipe, optimisation=replace(recipe.optimisation, iterations=6)), photos, tmp_path, resume=True)
    assert [entry["step"] for entry in log(tmp_path)] == [4, 6]
    with pytest.raises(UsageError, match="already at step 6"):
        train(recipe, photos, tmp_path, resume=True)


def test_run_folders_are_not_mixed_up(photos, tmp_path):
    with pytest.raises(UsageError, match="no run"):
        train(tiny(iterations=1), photos, tmp_path, resume=True)
    train(tiny(iterations=1), photos, tmp_path)
    with pytest.raises(UsageError, match="already holds a run"):
        train(tiny(iterations=1), photos, tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        train(tiny(iterations=2, learning_rate=1e-4), photos, tmp_path, resume=True)
    (tmp_path / "state.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"state\.pt cannot be read"):
        train(tiny(iterations=2), photos, tmp_path, resume=True)


def test_a_loss_that_is_not_finite_ends_the_run_naming_the_step(photos, tmp_path):
    train(tiny(iterations=2), photos, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["weights"]["c1.bias"][0] = float("inf")
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(LkdnError, match=r"the loss is (nan|inf) at step 2, learning rate"):
        train(tiny(iterations=3), photos, tmp_path, resume=True)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    assert read_recipe(path).network.block is Block.RBSB


def test_the_bundled_recipe_is_lkdn_s():
    assert read_recipe(RECIPES / "bundled_lkdn_s_x4.toml").network == LkdnSpec.lkdn_s(4)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("learning_rate = 1e-2", "learning_rate = -1e-2", "learning_rate must be above 0"),
        ("learning_rate = 1e-2", "learning_rate = nan", "learning_rate must be above 0"),
        ("learning_rate = 1e-2", "", "missing.*learning_rate"),
        ("tail = 0.5", "tale = 0.5", r"unknown key optimisation\.tale"),
        ("seed = 1", "speed = 1", "unknown key speed"),
        ("seed = 1", "seed = true", "seed must be of type int"),
        ('block = "rbsb"', 'block = "abc"', "must be one of bsb, bsrb, rbsb"),
        ("channels = 12", "channels = 13", "channels must be even"),
        ("patch = 16", "patch = 0", "patch must be between"),
        ("[data]", "[data", "not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused_naming_the_key(tmp_path, old, new, says):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TINY.read_text().replace(f"\n{old}\n", f"\n{new}\n"))
    with pytest.raises(UsageError, match=says):
        read_recipe(recipe)


def test_errors_end_the_command_with_their_code_and_hint(tmp_path):
    arguments = [TINY, "--data", tmp_path, "--out", tmp_path / "run"]
    done = subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds no image" in done.stderr
    assert "hint: give a folder of photographs" in done.stderr


def test_learning_rate_warms_up_holds_and_falls_to_zero():
    settings = Optimisation(iterations=1000, learning_rate=1.0, warm_up=9, tail=0.4)
    rates = [settings.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:601] == [1.0] * 592
    assert rates[800] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-4
    assert all(after <= before for before, after in pairwise(rates[600:]))


@pytest.mark.parametrize("block", list(Block))
@pytest.mark.parametrize("upsampler", list(Upsampler))
def test_merged_training_equals_the_branch_form_in_outputs_and_gradients(block, upsampler):
    torch.manual_seed(0)
    spec = LkdnSpec(3, 2, 10, 8, block=block, upsampler=upsampler)
    branches = LKDN(spec).double()
    weights = dict(branches.named_parameters())
    x, target = torch.rand(2, 3, 9, 11).double(), torch.rand(2, 3, 27, 33).double()
    outputs = branches(x), OnlineLKDN(spec)(weights, x)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad((y - target).abs().mean(), list(weights.values())) for y in outputs]
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert merge(weights).keys() == LKDN(plain_spec(spec)).state_dict().keys()
