"""Learning from originals, from a teacher's output, and from a teacher's blocks: the same crops and iterations.

    python benchmarks/distillation.py --data DIR... --graphics DIR --init FILE --teachers DIR [--iterations 1000]

LKDN-S x4 is trained on for some iterations from the weights INIT, a quarter of each batch from drawings, by L1 against

- `plain`: the originals;
- `lkdn-s`, `lkdn`: half the originals, half the output of the authors' LKDN-S or LKDN, from the folder of --teachers;
- `lkdn-s only`: the output of the authors' LKDN-S alone.

`lkdn-s blocks` starts from random weights instead, since features have another meaning there: each block learns what
the block of the authors' LKDN-S makes of its own input. Measured on held-out photographs and on the graphics of
`lkdn-eval --data graphics`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import torch

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.quality.graphics import measure_graphics
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.data import CropSettings
from lkdn_models.training.evaluate import in_torch
from lkdn_models.training.recipe import Distillation, Optimisation, Recipe
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.train import Places, train

VARIANTS = {
    "plain": (Distillation(), None),
    "lkdn-s": (Distillation(output=0.5), "LKDN-S_x4.pth"),
    "lkdn": (Distillation(output=0.5), "LKDN_x4.pth"),
    "lkdn-s only": (Distillation(output=1.0), "LKDN-S_x4.pth"),
    "lkdn-s blocks": (Distillation(blocks=True), "LKDN-S_x4.pth"),
}
DATA = CropSettings(patch=32, batch=8, max_sides=(2000, 1000), candidates=2, held_out=8, graphics=0.25)


def main() -> None:
    """Train each variant, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--graphics", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "distillation.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {"machine": machine_facts(), "iterations": options.iterations, "crops": DATA.batch, "patch": DATA.patch}
    for name, (distillation, file) in VARIANTS.items():
        results[name] = measured(options, distillation, file and options.teachers / file)
        options.output.write_text(json.dumps(results, indent=2) + "\n")
        print(name, json.dumps(results[name]))


def measured(options: argparse.Namespace, distillation: Distillation, teacher: Path | None) -> dict:
    """Train one variant; return its quality on held-out photographs and graphics, and the CPU time that it took."""
    settings = Optimisation(options.iterations, 2e-3, warm_up=50, tail=0.9, ema=0.99, max_grad_norm=10)
    recipe = Recipe(LkdnSpec.lkdn_s(4), DATA, settings, distillation, seed=7)
    init = None if distillation.blocks else options.init
    with TemporaryDirectory() as folder:
        places = Places(options.data, Path(folder), (), [options.graphics], init, teacher, options.cache)
        since = process_time()
        weights = train(replace(recipe, log_every=100), places)
        seconds = process_time() - since
        quality = RunFolder(places.out).read_log()[-1]["validation"]
        network = load_checkpoint(weights).build()
    return {
        "held_out": quality,
        "graphics": {name: round(error, 1) for name, error in measure_graphics(in_torch(network)).items()},
        "cpu_seconds": round(seconds),
    }


if __name__ == "__main__":
    main()
