"""Measure `lkdn-upscale` on a folder of small pictures against a loop over the Python API, which loads once.

    python benchmarks/batch.py [--pictures 200] [--rounds 3] [--output benchmarks/results/batch.json]

Both make the same results of the same 320x180 pictures with the bundled LKDN-S, from PNG to PNG, each in a process of
its own: the command with its journal, the loop as one writes it first: `upscaler(image)` of what Pillow opens, saved by
Pillow with its defaults, or with the least compression, which is the quickest. They run in turn (A B C A B C ...) after
a round that is not counted. Quote the ratio of whole processes, start-up included, and the seconds a picture.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.imaging.files.read import image_files, read_rgb
from lkdn_deploy.samples import sample_pixels

WIDTH, HEIGHT = 320, 180

COMMAND = "from lkdn_deploy.cli.upscale import main; main()"
LOOP = """
import sys
from pathlib import Path
from PIL import Image
from lkdn_deploy import load
source, target, scale, backend, level = sys.argv[1:]
options = {} if level == "default" else {"compress_level": int(level)}
upscaler = load("lkdn-s", int(scale), backend=backend)
for path in sorted(Path(source).iterdir()):
    upscaler(Image.open(path)).save(Path(target) / path.name, **options)
"""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photographs that the pictures are cut from")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "batch.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in"
        make_pictures(source, options.pictures, options.data)
        seconds = measure(source, Path(name), options)
    command = seconds["command"]
    results = {
        "machine": machine_facts(),
        "input": f"{options.pictures} pictures of {WIDTH}x{HEIGHT}, x{options.scale}, PNG to PNG",
        "photographs": "bundled" if options.data is None else "of a folder",
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "seconds_a_picture": {
            name: round(statistics.median(values) / options.pictures, 4) for name, values in seconds.items()
        },
        "command_over": {
            name: spread([one / other for one, other in zip(command, values, strict=True)])
            for name, values in seconds.items()
            if name != "command"
        },
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def make_pictures(folder: Path, count: int, data: Path | None) -> None:
    """Write pictures that are cut from photographs at places of their own."""
    folder.mkdir()
    photographs = [sample_pixels()] if data is None else [read_rgb(path) for path in image_files(data)[:20]]
    random = np.random.default_rng(0)
    for index in range(count):
        image = Image.fromarray(photographs[index % len(photographs)])
        if data is None:  # which is smaller
            image = image.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.LANCZOS)
        left, top = (
            int(random.integers(0, size - part + 1)) for size, part in zip(image.size, (WIDTH, HEIGHT), strict=True)
        )
        image.crop((left, top, left + WIDTH, top + HEIGHT)).save(folder / f"{index:04}.png")


def measure(source: Path, folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each candidate in each round."""
    target = folder / "out"
    choices = ["--scale", str(options.scale), "--backend", options.backend]
    loop = [sys.executable, "-c", LOOP, str(source), str(target), str(options.scale), options.backend]
    candidates = {
        "command": [sys.executable, "-c", COMMAND, str(source), str(target), *choices],
        "loop": [*loop, "default"],
        "loop, least compression": [*loop, "1"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(options.rounds + 1):
        made: dict[str, Any] = {}
        for name, command in candidates.items():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if number:
                seconds[name].append(time.perf_counter() - start)
            made[name] = np.asarray(Image.open(target / "0000.png"))
            if len([path for path in target.iterdir() if path.suffix == ".png"]) != options.pictures:
                sys.exit(f"{name} did not write every picture")
        if any(not np.array_equal(pixels, made["loop"]) for pixels in made.values()):
            sys.exit("the candidates gave different pixels")
        print(f"round {number} of {options.rounds}", file=sys.stderr)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Summarise a few measurements."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
