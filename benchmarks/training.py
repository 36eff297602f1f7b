"""Compare the training loop's images per second with a plain loop's, in turn in one process (A B A B).

    python benchmarks/training.py [--rounds 7] [--steps 6] [--output benchmarks/results/training.json]

All train LKDN-S x4 on the same batches (8 crops of 32x32 LR pixels, cut anew for each step) with Adan and the average
of the weights, on one thread:


- `plain`: the branch form, NCHW, eager: the obvious loop;
- `channels_last`: the same with channels last;
- `loop`: `lkdn_models.training.learner` as it is: channels last, through merged weights.

They start from the same weights; that their first losses agree is checked.
"""

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from upscale import in_turn

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.samples import sample_pixels
from lkdn_models.data import CropSettings, CropSource, open_photos
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.learner import Learner
from lkdn_models.training.optim import Adan, Ema
from lkdn_models.training.recipe import Optimisation, Recipe

RECIPE = Recipe(LkdnSpec.lkdn_s(4), CropSettings(patch=32, batch=8), Optimisation(iterations=1000, learning_rate=1e-4))


class Plain:
    """A step of the obvious training loop."""

    def __init__(self, memory_format: torch.memory_format) -> None:
        torch.manual_seed(RECIPE.seed)
        self._format = memory_format
        self._network = LKDN(RECIPE.network).to(memory_format=memory_format)
        self._optimiser = Adan(self._network.parameters(), RECIPE.optimisation.learning_rate)
        self._ema = Ema(dict(self._network.named_parameters()), RECIPE.optimisation.ema)

    def step(self, index: int, low: torch.Tensor, high: torch.Tensor) -> float:
        """Update the weights, and return the loss before."""
        low, high = (batch.contiguous(memory_format=self._format) for batch in (low, high))
        loss = torch.nn.functional.l1_loss(self._network(low), high)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._ema.update(dict(self._network.named_parameters()), index + 1)
        return loss.item()


class Loop:
    """A step of the project's training loop."""

    def __init__(self) -> None:
        self._learner = Learner(RECIPE, torch.device("cpu"))

    def step(self, index: int, low: torch.Tensor, high: torch.Tensor) -> float:
        """Update the weights, and return the loss before."""
        loss = self._learner.differentiate(low, high)
        self._learner.update(index, RECIPE.optimisation.learning_rate)
        return loss


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "training.json")
    options = parser.parse_args()
    facts = machine_facts()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        Image.fromarray(sample_pixels()).save(folder / "photos" / "sample.png")
        photos = open_photos([folder / "photos"], 4, RECIPE.data, 0, folder / "cache")
        results = {"machine": facts, **compare(CropSource(photos.training, 4, RECIPE.data, 0), options)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def compare(source: CropSource, options: argparse.Namespace) -> dict:
    """Return images per second of each loop, and their ratios to the plain loop."""
    contenders = {"plain": Plain(torch.contiguous_format), "channels_last": Plain(torch.channels_last), "loop": Loop()}
    losses: dict[str, list[float]] = {name: [] for name in contenders}

    def steps(name: str) -> None:
        for _ in range(options.steps):
            index = len(losses[name])
            losses[name].append(contenders[name].step(index, *source.batch(index)))

    times = in_turn({name: lambda name=name: steps(name) for name in contenders}, options.rounds)
    worst = max(abs(value[i] - losses["plain"][i]) for value in losses.values() for i in range(options.steps))
    if worst > 1e-4:
        message = f"the loops do not compute the same: losses differ by {worst}"
        raise SystemExit(message)
    images = options.steps * RECIPE.data.batch
    return {
        "threads": 1,
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "largest_difference_of_the_first_losses": worst,
        "images_per_s": {name: round(images / value["median"], 1) for name, value in times.items()},
        "speed_over_plain": {
            name: round(times["plain"]["median"] / value["median"], 2) for name, value in times.items()
        },
        "seconds": times,
    }


if __name__ == "__main__":
    main()
