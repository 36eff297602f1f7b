"""Measure a bundled model and write the figures into its card.

    python tools/measure_model.py lkdn-s 4 TESTSETS [--beside FILE]...

TESTSETS holds NAME/xSCALE/HR/*.png. Low-resolution images are made by `imaging.resample`. The card's rows must be
there; their figures are replaced: of the model, of each checkpoint given with --beside, and of bicubic.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from lkdn_deploy import load
from lkdn_deploy.bench.quality.graphics import measure_graphics
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.training.evaluate import Upscale, bicubic, in_torch, mean, measure, open_set
from lkdn_models.zoo import find


def rows(upscalers: list[Upscale], scale: int, testsets: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of the card's rows and their cells: PSNR / SSIM on luma, then errors on graphics in levels."""
    for name in ("Set5", "Set14"):
        pictures = open_set(testsets / name, scale)
        means = [mean(measure(upscale, pictures)) for upscale in upscalers]
        yield name, " | ".join(f"{quality.psnr_y:.3f} / {quality.ssim_y:.4f}" for quality in means)
    errors = [measure_graphics(upscale) for upscale in upscalers]
    for name in errors[0]:
        yield name, " | ".join(f"{error[name]:.1f}" for error in errors)


@click.command()
@click.argument("model")
@click.argument("scale", type=int)
@click.argument("testsets", type=click.Path(path_type=Path, exists=True))
@click.option("--beside", multiple=True, type=click.Path(path_type=Path), help="A checkpoint with a column of its own.")
def main(model: str, scale: int, testsets: Path, beside: tuple[Path, ...]) -> None:
    """Replace the figures in the card of MODEL at SCALE by those measured on TESTSETS and on graphics."""
    others = [in_torch(load_checkpoint(path, scale).build()) for path in beside]
    path = find(model, scale).bundled.with_suffix(".md")
    card = path.read_text()
    for name, cells in rows([load(model, scale), *others, bicubic(scale)], scale, testsets):
        row = f"| {name} | {cells} |"
        card, count = re.subn(rf"^\| {re.escape(name)} \|.*$", row, card, flags=re.M)
        print(row, "" if count else "(the card has no such row)")
    path.write_text(card)


if __name__ == "__main__":
    main()
