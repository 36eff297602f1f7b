"""Draw what models make of graphics, beside bicubic: the pictures of `lkdn-eval --data graphics`, x4.

    python benchmarks/graphics_picture.py [--weights FILE]... [--output benchmarks/results/graphics.png]

The columns are bicubic, the bundled LKDN-S and each checkpoint given; below each picture is its error in levels.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lkdn_deploy import load
from lkdn_deploy.bench.quality.graphics import flat, largest_error, mean_error, test_pictures
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.training.evaluate import bicubic, in_torch

SIDE = 48
"""Pixels of the low-resolution details that are shown."""
TEXT = 18
"""Height in pixels of a line of writing."""


def main() -> None:
    """Upscale, paste and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, action="append", default=[])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "graphics.png")
    options = parser.parse_args()
    columns = {"bicubic": bicubic(4), "bundled LKDN-S": load("lkdn-s", 4)}
    columns |= {path.stem: in_torch(load_checkpoint(path).build()) for path in options.weights}
    pictures = {**test_pictures(), "flat 8x8, enlarged further": flat(8)}
    cell = 4 * SIDE
    sheet = Image.new("RGB", (len(columns) * (cell + 8), TEXT + len(pictures) * (cell + 2 * TEXT)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, (title, upscale) in enumerate(columns.items()):
        left, top = column * (cell + 8), TEXT
        draw.text((left, 0), title, "black", font)
        for name, low in pictures.items():
            high = upscale(low)
            error = largest_error(high) if name.startswith("flat") else mean_error(low, high)
            detail = Image.fromarray(np.ascontiguousarray(high[:cell, :cell]))
            if name.startswith("flat"):
                detail = detail.resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(detail, (left, top))
            draw.text((left, top + cell), f"{name if column == 0 else ''}", "black", font)
            draw.text((left, top + cell + TEXT - 4), f"error {error:.1f}", "black", font)
            top += cell + 2 * TEXT
    sheet.save(options.output, optimize=True)
    print(options.output)


if __name__ == "__main__":
    main()
