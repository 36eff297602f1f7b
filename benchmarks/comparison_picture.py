"""Draw bicubic, the bundled LKDN-S, the authors' LKDN-S and the original beside each other, x4, for the README.

    python benchmarks/comparison_picture.py measure --weights LKDN-S_x4.pth    measures, records and draws
    python benchmarks/comparison_picture.py draw                               draws what is recorded

The pictures are those of `make demo`, which no training has seen. Each network runs as its exported file. Details of
the results are recorded in results/comparison/, the PSNR on luma of the whole in results/comparison.json.
"""

import argparse
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lkdn_deploy import load
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.resample import downsample, imresize

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SCALE = 4
DETAILS = {"rooftops": (150, 60), "text": (16, 8)}
"""Left and top of the details, in pixels of the original."""
WIDTH, HEIGHT, GAP, TEXT = 300, 220, 6, 22
COLUMNS = ("bicubic", "bundled LKDN-S", "authors' LKDN-S", "original")


def measure(weights: Path) -> None:
    """Upscale the pictures, and record details of the results and the PSNR of the whole."""
    sys.path.append(str(ROOT / "tools"))
    from demo import originals

    upscalers = {"bundled LKDN-S": load("lkdn-s", SCALE), "authors' LKDN-S": load(weights)}
    found: dict[str, dict[str, float]] = {}
    (RESULTS / "comparison").mkdir(exist_ok=True)
    for name, original in originals().items():
        small = downsample(original, SCALE)
        results = {"bicubic": imresize(small, SCALE)}
        results |= {label: upscale(small) for label, upscale in upscalers.items()}
        found[name] = {label: round(psnr_y(pixels, original, SCALE), 3) for label, pixels in results.items()}
        left, top = DETAILS[name]
        for label, pixels in (results | {"original": original}).items():
            detail = np.ascontiguousarray(pixels[top : top + HEIGHT, left : left + WIDTH])
            Image.fromarray(detail).save(picture(name, label), optimize=True)
    record = {
        "recorded": datetime.now(UTC).date().isoformat(),
        "machine": machine_facts(),
        "weights_sha256": {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()},
        "psnr_y": found,
    }
    (RESULTS / "comparison.json").write_text(json.dumps(record, indent=1) + "\n")


def picture(name: str, label: str) -> Path:
    """Return the file of one recorded detail."""
    return RESULTS / "comparison" / f"{name}_{label.replace(' ', '_').replace(chr(39), '')}.png"


def draw(target: Path) -> None:
    """Paste the recorded details into one picture, with their labels."""
    psnr = json.loads((RESULTS / "comparison.json").read_text())["psnr_y"]
    font = ImageFont.load_default(15)
    size = (len(COLUMNS) * (WIDTH + GAP) - GAP, len(DETAILS) * (HEIGHT + TEXT + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(DETAILS):
        for column, label in enumerate(COLUMNS):
            left, top = column * (WIDTH + GAP), row * (HEIGHT + TEXT + GAP)
            figure = psnr[name].get(label)
            pen.text((left, top + 2), label if figure is None else f"{label}, {figure:.2f} dB", "black", font)
            with Image.open(picture(name, label)) as detail:
                sheet.paste(detail, (left, top + TEXT))
    sheet.save(target, quality=90, method=6)
    print(target)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    tasks.add_parser("measure").add_argument("--weights", type=Path, required=True)
    tasks.add_parser("draw")
    options = parser.parse_args()
    if options.task == "measure":
        measure(options.weights)
    draw(RESULTS / "comparison.webp")


if __name__ == "__main__":
    main()
