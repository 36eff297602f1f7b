"""Errors of an upscaler on drawings: letters, single pixels, stripes and flat colours.

Such a picture has no larger original, so the result is averaged down again and compared with the input: whatever a
sharper picture looks like, the mean of each block of pixels should be the pixel that it came from. All errors are in
levels of 0..255; smaller is better, and repeating each pixel gives 0.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Colour = tuple[int, int, int]
BLACK, WHITE, GREEN = (0, 0, 0), (255, 255, 255), (0, 255, 0)
FLAT: Colour = (10, 200, 90)
"""The colour of the flat pictures."""
FLAT_SIDES = (1, 2, 8, 64)
"""Sides of the flat pictures in pixels."""
PALETTE: tuple[Colour, ...] = ((230, 30, 30), (40, 220, 40), (30, 30, 230), (250, 240, 60))
"""The colours of the pixel art."""
LINES = ("The quick brown fox", "jumps over 12,345", "lazy dogs @ 67.89%")


def measure_graphics(upscale: Callable[[Pixels], Pixels]) -> dict[str, float]:
    """Return the error of each row in levels, by the row's name.

    Args:
        upscale: (h, w, 3) RGB -> (scale * h, scale * w, 3) RGB.
    """
    rows = {name: mean_error(low, upscale(low)) for name, low in test_pictures().items()}
    return rows | {f"flat {side}x{side}": largest_error(upscale(flat(side))) for side in FLAT_SIDES}


def test_pictures() -> dict[str, Pixels]:
    """Return the pictures whose mean error is measured, by name. They are the same on every machine."""
    art = np.random.default_rng(0).integers(len(PALETTE), size=(32, 32))
    return {
        "1-bit text and a thin line": _text(10, smooth=False, line=True),
        "pixel art, 2x2 blocks": np.array(PALETTE, np.uint8)[art].repeat(2, 0).repeat(2, 1),
        "one-pixel checkerboard": checkerboard(48, BLACK, WHITE),
        "every second row green": np.array([BLACK, GREEN] * 16, np.uint8)[:, None].repeat(32, 1),
        "small antialiased text": _text(14, smooth=True),
    }


test_pictures.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _text(size: int, *, smooth: bool, line: bool = False) -> Pixels:
    """Draw ``LINES`` in a font of ``size`` pixels, antialiased or not, with or without a thin line below them."""
    step = 2 * size
    image = Image.new("RGB", (size * max(map(len, LINES)), step * (len(LINES) + line) + size // 2), WHITE)
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L" if smooth else "1"
    for number, words in enumerate(LINES):
        draw.text((size // 2, size // 3 + step * number), words, BLACK, ImageFont.load_default(size))
    if line:
        draw.line((size // 2, step * len(LINES) + 2, image.width - size // 2, image.height - 3), BLACK)
    return np.asarray(image)


def checkerboard(side: int, first: Colour, second: Colour) -> Pixels:
    """Draw a checkerboard of ``side`` x ``side`` pixels, a pixel a square, which begins with ``first``."""
    return np.array([first, second], np.uint8)[np.indices((side, side)).sum(0) % 2]  # type: ignore[no-any-return]


def flat(side: int, colour: Colour = FLAT) -> Pixels:
    """Draw ``side`` x ``side`` pixels of one colour."""
    return np.full((side, side, 3), colour, np.uint8)


def mean_error(low: Pixels, high: Pixels) -> float:
    """Return the mean absolute difference of ``low`` and the block means of ``high``.

    Raises:
        ValueError: if ``high`` is not a whole number of times larger.
    """
    height, width, channels = low.shape
    blocks = high.reshape(height, high.shape[0] // height, width, -1, channels)
    return float(np.abs(blocks.mean(axis=(1, 3)) - low).mean())


def largest_error(high: Pixels, colour: Colour = FLAT) -> float:
    """Return the largest difference of any value of ``high`` from ``colour``."""
    return float(np.abs(high - np.array(colour, np.float64)).max())
