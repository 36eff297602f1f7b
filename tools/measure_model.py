"""Print the quality rows of a model card: PSNR on luma of an artefact and of bicubic.

    python tools/measure_model.py lkdn-s 4 TESTSETS

TESTSETS holds NAME/xSCALE/HR/*.png. Low-resolution images are made by `imaging.resample`.
"""

import sys
from pathlib import Path

from lkdn_deploy import load
from lkdn_deploy.imaging.resample import imresize
from lkdn_models.evaluate import mean_psnr_y


def main(model: str, scale: str, testsets: str) -> None:
    """One row a set: the network, bicubic."""
    upscaler = load(model, int(scale))
    for name in ("Set5", "Set14"):
        folder = Path(testsets) / name / f"x{scale}" / "HR"
        candidates = (upscaler, lambda low: imresize(low, upscaler.scale))
        network, bicubic = (mean_psnr_y(candidate, upscaler.scale, folder) for candidate in candidates)
        print(f"| {name} | {network:.3f} | {bicubic:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
