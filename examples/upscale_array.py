"""Upscale an array, as a program does that has its pictures in memory.

python examples/upscale_array.py
"""

import numpy as np

from lkdn_deploy import load
from lkdn_deploy.samples import sample_pixels


def main() -> None:
    """Print the shapes, and that transparency and 16 bits stay."""
    pixels = sample_pixels()  # (H, W, 3) of uint8; a photograph that comes with the package
    with load("lkdn-s", scale=2) as upscale:
        print(pixels.shape, "->", upscale(pixels).shape)

        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        print("with alpha:", upscale(np.concatenate([pixels, alpha], axis=2)).shape)

        precise = pixels.astype(np.uint16) * 257
        print("16 bits:", upscale(precise).dtype)

        # The same with facts: tiles, and whether the result equals that of the whole picture.
        result = upscale.upscale(pixels)
        print(f"{result.tiles} tile, exact: {result.exact}")


if __name__ == "__main__":
    main()
