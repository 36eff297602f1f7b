"""Print the quality rows of a model card: PSNR / SSIM on luma of an artefact and of bicubic.

    python tools/measure_model.py lkdn-s 4 TESTSETS

TESTSETS holds NAME/xSCALE/HR/*.png. Low-resolution images are made by `imaging.resample`.
"""

import sys
from pathlib import Path

from lkdn_deploy import load
from lkdn_models.training.evaluate import bicubic, mean, measure, open_set


def main(model: str, scale: str, testsets: str) -> None:
    """One row a set: the network, bicubic."""
    upscaler = load(model, int(scale))
    for name in ("Set5", "Set14"):
        pictures = open_set(Path(testsets) / name, upscaler.scale)
        means = [mean(measure(upscale, pictures)) for upscale in (upscaler, bicubic(upscaler.scale))]
        print("|", name, "|", " | ".join(f"{quality.psnr_y:.3f} / {quality.ssim_y:.4f}" for quality in means), "|")


if __name__ == "__main__":
    main(*sys.argv[1:])
