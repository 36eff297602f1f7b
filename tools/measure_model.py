"""Print the quality rows of a model card: PSNR on luma of an artefact and of bicubic.

    python tools/measure_model.py lkdn-s 4 TESTSETS

TESTSETS holds NAME/xSCALE/HR/*.png. Low-resolution images are made by `imaging.resample`.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.resample import downsample, imresize


def main(model: str, scale: str, folder: str) -> None:
    """One row a set: the network, bicubic."""
    upscaler, factor = load(model, int(scale)), int(scale)
    for name in ("Set5", "Set14"):
        network, bicubic = [], []
        for path in sorted((Path(folder) / name / f"x{scale}" / "HR").glob("*.png")):
            with Image.open(path) as image:
                high = np.asarray(image.convert("RGB"))
            low = downsample(high, factor)
            network.append(psnr_y(upscaler(low), high, factor))
            bicubic.append(psnr_y(imresize(low, factor), high, factor))
        print(f"| {name} | {np.mean(network):.3f} | {np.mean(bicubic):.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
