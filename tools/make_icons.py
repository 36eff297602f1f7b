"""Draw the icons of the page: half a disc in coarse pixels, half a disc that is smooth.

    python tools/make_icons.py

They are written into lkdn_deploy/web/static. The maskable one fills its square, and keeps its drawing in the circle
that systems may cut out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).parents[1] / "lkdn_deploy" / "web" / "static"
BACK, DISC, PIXELS = (11, 106, 98), (255, 255, 255), (156, 222, 212)
FINE = 4  # samples along each side of a pixel
COARSE = 7  # pixels of the coarse half along the diameter


def main() -> None:
    """Write all icons."""
    for name, side, radius, corner in (
        ("icon-192.png", 192, 0.34, 0.22),
        ("icon-512.png", 512, 0.34, 0.22),
        ("icon-maskable-512.png", 512, 0.27, 0.0),
    ):
        picture = Image.fromarray(drawn(side * FINE, radius, corner)).resize((side, side), Image.Resampling.BOX)
        picture.save(FOLDER / name, optimize=True)
        print(name, (FOLDER / name).stat().st_size, "bytes")


def drawn(side: int, radius: float, corner: float) -> NDArray[np.uint8]:
    """Draw an icon with hard edges, as an array (side, side, 4).

    Args:
        side: in pixels.
        radius: of the disc, as a fraction of the side.
        corner: radius of the square's corners, likewise.
    """
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    beyond = np.hypot(np.maximum(np.abs(x) - 0.5 + corner, 0), np.maximum(np.abs(y) - 0.5 + corner, 0))
    cell = 2 * radius / COARSE
    coarse = np.hypot(*(cell * (np.floor(it / cell + 0.5)) for it in (x + cell / 2, y))) < radius
    smooth = np.hypot(x, y) < radius
    icon = np.zeros((side, side, 4), np.uint8)
    icon[beyond <= corner] = (*BACK, 255)
    icon[(x < 0) & coarse] = (*PIXELS, 255)
    icon[(x >= 0) & smooth] = (*DISC, 255)
    return icon


if __name__ == "__main__":
    main()
