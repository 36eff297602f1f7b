"""Compare the MATLAB-exact bicubic of `imaging.resample` with Pillow's, which training sets are too often shrunk with.

    python benchmarks/resample.py [--rounds 9] [--output benchmarks/results/resample.json]

One image of 2.1 megapixels (the bundled photograph, repeated: time does not depend on content) is shrunk by 2, 3 and 4
with each, in turn in one process, on one thread. Recorded are seconds, HR megapixels per second, the ratio, and by how
many of 255 steps the results differ.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from upscale import in_turn

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.imaging.resample import downsample
from lkdn_deploy.samples import sample_pixels

TILES = 7
"""Copies of the 240x180 photograph in each direction: 1680x1260, which 2, 3 and 4 divide."""


def main() -> None:
    """Run the comparison and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "resample.json")
    options = parser.parse_args()
    image = np.tile(sample_pixels(), (TILES, TILES, 1))
    facts = machine_facts()
    results = {
        "machine": facts,
        "image": f"{image.shape[1]}x{image.shape[0]}",
        "scales": {f"x{scale}": compare(image, scale, options.rounds) for scale in (2, 3, 4)},
        "load_after": os.getloadavg()[0],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def compare(image: NDArray[np.uint8], scale: int, rounds: int) -> dict[str, Any]:
    """Measure both, shrinking ``image`` by ``scale``."""
    height, width = (size // scale for size in image.shape[:2])
    picture = Image.fromarray(image)

    def pillow() -> Image.Image:
        return picture.resize((width, height), Image.Resampling.BICUBIC)

    difference = np.abs(downsample(image, scale).astype(int) - np.asarray(pillow()).astype(int))
    times = in_turn({"matlab_exact": lambda: downsample(image, scale), "pillow": pillow}, rounds)
    megapixels = image.shape[0] * image.shape[1] / 1e6
    return {
        "megapixels_per_s": {name: round(megapixels / value["median"], 2) for name, value in times.items()},
        "matlab_exact_over_pillow": round(times["matlab_exact"]["median"] / times["pillow"]["median"], 1),
        "difference": {"mean": round(float(difference.mean()), 3), "max": int(difference.max())},
        "seconds": times,
    }


if __name__ == "__main__":
    main()
