"""Draw what the bundled models cannot do: one row for each limit that their cards name.

    python benchmarks/limits_picture.py [--scale 4] [--output benchmarks/results/limits_x4.jpg]

The columns are the input with its pixels enlarged, bicubic, the bundled LKDN-S and the original. Below a result is its
PSNR on luma, in dB. The photograph is that of `make demo`, reduced as the test sets are and then spoilt.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from lkdn_deploy import load
from lkdn_deploy.bench.quality.graphics import flat
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.imaging.resample import downsample, imresize

PHOTOGRAPH = Path(__file__).parents[1] / "tools" / "demo" / "rooftops.png"
LEFT, TOP, SIDE = 150, 60, 192
"""The detail of the original that is shown, in pixels; 192 is a multiple of all scales."""
GAP, TEXT = 8, 20


def main() -> None:
    """Spoil, upscale, paste and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    scale = options.scale
    output = options.output or Path(__file__).parent / "results" / f"limits_x{scale}.jpg"
    with Image.open(PHOTOGRAPH) as image:
        original = np.asarray(image.convert("RGB"))[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    rows = [(name, spoil(downsample(original, scale)), original) for name, spoil in SPOILT.items()]
    rows.append(("flat, 2x2", flat(2), flat(2 * scale)))
    upscale = load("lkdn-s", scale)
    sheet = Image.new("RGB", (4 * (SIDE + GAP) - GAP, TEXT + len(rows) * (SIDE + 2 * TEXT)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(("input", "bicubic", "LKDN-S, bundled", "original")):
        draw.text((column * (SIDE + GAP), 0), title, "black", font)
    for number, (name, low, high) in enumerate(rows):
        top = TEXT + number * (SIDE + 2 * TEXT)
        for column, pixels in enumerate((low, imresize(low, scale), upscale(low), high)):
            shown = Image.fromarray(np.ascontiguousarray(pixels)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(shown, (column * (SIDE + GAP), top))
            text = name if column == 0 else ""
            if column in (1, 2):
                result = pixels.astype(np.uint8)
                worst = int(np.abs(result.astype(int) - high).max())
                text = f"off by {worst}" if name.startswith("flat") else f"{psnr_y(result, high, scale):.2f} dB"
            draw.text((column * (SIDE + GAP), top + SIDE), text, "black", font)
    sheet.save(output, quality=80, optimize=True)
    print(output)


def with_jpeg(low: Pixels) -> Pixels:
    """Return what JPEG of quality 40 leaves of an image."""
    buffer = io.BytesIO()
    Image.fromarray(low).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def with_noise(low: Pixels) -> Pixels:
    """Return an image with white noise of 8 levels."""
    noise = np.random.default_rng(0).normal(0, 8, low.shape)
    return np.clip(np.rint(low + noise), 0, 255).astype(np.uint8)


def out_of_focus(low: Pixels) -> Pixels:
    """Return an image blurred by a Gaussian of 1.2 pixels."""
    return np.asarray(Image.fromarray(low).filter(ImageFilter.GaussianBlur(1.2)))


SPOILT: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG of quality 40": with_jpeg,
    "noise of 8 levels": with_noise,
    "out of focus": out_of_focus,
}

if __name__ == "__main__":
    main()
