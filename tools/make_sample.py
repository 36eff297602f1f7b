"""Make lkdn_deploy/samples/dandelion.png from the full photograph.

    python tools/make_sample.py seeding_by_Clements_Engelhardt.jpg lkdn_deploy/samples/dandelion.png

The photograph is "Seeding" by Clemens Engelhardt, 2018, CC0-1.0 (Debian package lomiri-wallpapers-16.04). The sample
looks like a small picture: a crop, shrunk to 240x180 by the bicubic of the quality tables.
"""

import sys
from fractions import Fraction

import numpy as np
from PIL import Image

from lkdn_deploy.imaging.resample import imresize

LEFT, TOP, WIDTH, HEIGHT, SHRINK = 600, 170, 1920, 1440, 8


def main(source: str, target: str) -> None:
    """Crop, shrink and save the photograph."""
    with Image.open(source) as image:
        crop = np.asarray(image.convert("RGB").crop((LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT)))
    Image.fromarray(imresize(crop, Fraction(1, SHRINK))).save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
