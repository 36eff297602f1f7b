"""Compare Adan with Adam on the same network, photographs, crops and first weights (the paper's Figure 5, smaller).

    python benchmarks/convergence.py --data DIR [--val DIR] [--iterations 3000] [--runs DIR] [--output FILE.json]

A narrow LKDN x4 is trained with each optimiser at the learning rates below. The authors train with 5e-3 for Adan and
1e-3 for Adam; each is also given the other's rate, so that optimisers are compared and not only rates. Losses and PSNR
are written as JSON, and as a plot beside it. The PSNR is that on ``--val`` (Urban100 in the paper), or else on
photographs held out from training. Nothing is timed, so interrupted runs can resume from ``--runs``.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

import torch

from lkdn_deploy.core.errors import ExitCode
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.data import CropSettings
from lkdn_models.training.curves import write_curves
from lkdn_models.training.recipe import Optimisation, Optimiser, Recipe
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.train import Places, train

CONTENDERS = {
    "adan_5e-3": {"optimiser": Optimiser.ADAN, "learning_rate": 5e-3},
    "adam_1e-3": {"optimiser": Optimiser.ADAM, "learning_rate": 1e-3},
    "adan_1e-3": {"optimiser": Optimiser.ADAN, "learning_rate": 1e-3},
    "adam_5e-3": {"optimiser": Optimiser.ADAM, "learning_rate": 5e-3},
}


def recipe(iterations: int, **changes) -> Recipe:
    """Return the paper's recipe: constant rate and L1. Gradients are not clipped, which would favour one optimiser."""
    return Recipe(
        network=LkdnSpec(scale=4, blocks=3, channels=24, attention_channels=24),
        data=CropSettings(patch=24, batch=8, max_sides=(2000, 1000), candidates=3, held_out=4),
        optimisation=Optimisation(iterations=iterations, **changes),
        seed=0,
        log_every=20,
        save_every=500,
        keep=1,
        validate_every=200,
    )


def main() -> None:
    """Train every combination and write the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--val", type=Path, action="append", default=[], help="folder of pictures to validate on")
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--runs", type=Path, default=Path("runs") / "convergence")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "convergence.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logs = {}
    for name, changes in CONTENDERS.items():
        settings, folder = recipe(options.iterations, **changes), options.runs / name
        resume = any((folder / "states").glob("*.pt"))
        if train(settings, Places([options.data], folder, options.val), resume, bar=sys.stderr.isatty()) is None:
            raise SystemExit(ExitCode.INTERRUPTED)
        logs[name] = RunFolder(folder).read_log()
        print(name, logs[name][-1], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(summary(logs), indent=1) + "\n")
    write_curves(options.output.with_suffix(".svg"), logs)


def summary(logs: dict[str, list[dict]]) -> dict:
    """Return the figures that the plot shows."""
    first = next(iter(logs.values()))[0]
    validated = next(iter(first["bicubic"]))
    contenders = {}
    for name, log in logs.items():
        reached = {entry["step"]: entry["validation"][validated]["psnr_y"] for entry in log if "validation" in entry}
        losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
        contenders[name] = {
            "final_psnr_y": list(reached.values())[-1],
            "mean_psnr_y_of_the_last_five": round(mean(list(reached.values())[-5:]), 3),
            "mean_loss_of_the_last_tenth": round(mean(list(losses.values())[-max(1, len(losses) // 10) :]), 5),
            "psnr_y": reached,
            "loss": losses,
        }
    return {
        "recipe": {name: first["recipe"][name] for name in ("network", "data", "seed")},
        "iterations": first["recipe"]["optimisation"]["iterations"],
        "optimisers": {name: {key: str(value) for key, value in CONTENDERS[name].items()} for name in logs},
        "validated_on": validated,
        "images": first["data"]["images"],
        "bicubic_psnr_y": first["bicubic"][validated]["psnr_y"],
        "contenders": contenders,
    }


if __name__ == "__main__":
    main()
