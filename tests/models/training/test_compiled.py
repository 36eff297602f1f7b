"""Training through ``torch.compile``."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lkdn_deploy.core.errors import LkdnError
from lkdn_models.training.recipe import find_recipe, read_recipe
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.train import Places, train


def run(photos: Path, out: Path, *, compiled: bool) -> list[float]:
    """Train for two batches, and return the loss of each."""
    recipe = read_recipe(find_recipe("tiny"))
    optimisation = replace(recipe.optimisation, iterations=2, compile=compiled)
    train(replace(recipe, log_every=1, optimisation=optimisation), Places([photos], out))
    return [entry["loss"] for entry in RunFolder(out).read_log() if "loss" in entry]


def test_compiling_that_fails_is_a_clear_error(photos, tmp_path, monkeypatch):
    def broken(function, **_):
        def call(*_):
            message = "no compiler here"
            raise torch._dynamo.exc.TorchDynamoException(message)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(LkdnError, match=r"torch\.compile failed: no compiler here") as caught:
        run(photos, tmp_path, compiled=True)
    assert "without" in caught.value.hint


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_compiled_training_differs_by_rounding_alone(photos, tmp_path):
    plain, compiled = (run(photos, tmp_path / str(it), compiled=it) for it in (False, True))
    assert compiled == pytest.approx(plain, rel=1e-5)
