"""Errors of an upscaler on drawings: letters, single pixels, stripes and flat colours.

Such a picture has no larger original, so the result is averaged down again and compared with the input: whatever a
sharper picture looks like, the mean of each block of pixels should be the pixel that it came from. All errors are in
levels of 0..255; smaller is better, and repeating each pixel gives 0.
"""

from collections.abc import Callable, Sequence

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
        "1-bit text and a thin line": text(LINES, size=10, smooth=False, line=True),
        "pixel art, 2x2 blocks": np.array(PALETTE, np.uint8)[art].repeat(2, 0).repeat(2, 1),
        "one-pixel checkerboard": checkerboard(48, BLACK, WHITE),
        "every second row green": stripes(32, BLACK, GREEN),
        "small antialiased text": text(LINES, size=14, smooth=True),
    }


test_pictures.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def text(
    lines: Sequence[str],
    size: int,
    *,
    smooth: bool,
    line: bool = False,
    ink: Colour = BLACK,
    paper: Colour = WHITE,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont | None = None,
) -> Pixels:
    """Draw lines of writing.

    Args:
        lines: text of each line.
        size: font size in pixels.
        smooth: whether letters are antialiased; otherwise each pixel is ink or paper.
        line: whether a line one pixel wide crosses the picture below the writing.
        ink: colour of the letters.
        paper: colour of the background.
        font: font of that size; default: the font that comes with Pillow.
    """
    step = 2 * size
    image = Image.new("RGB", (size * max(map(len, lines)), step * (len(lines) + line) + size // 2), paper)
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L" if smooth else "1"
    for number, words in enumerate(lines):
        draw.text((size // 2, size // 3 + step * number), words, ink, font or ImageFont.load_default(size))
    if line:
        draw.line((size // 2, step * len(lines) + 2, image.width - size // 2, image.height - 3), ink)
    return np.asarray(image)


def checkerboard(side: int, first: Colour, second: Colour, cell: int = 1) -> Pixels:
    """Draw a checkerboard of ``side`` x ``side`` pixels, with squares ``cell`` pixels wide."""
    at = np.arange(side) // cell
    return np.array([first, second], np.uint8)[(at[:, None] + at) % 2]  # type: ignore[no-any-return]


def stripes(side: int, first: Colour, second: Colour, width: int = 1) -> Pixels:
    """Draw alternating stripes of two colours, ``width`` rows high, on ``side`` x ``side`` pixels."""
    return np.array([first, second], np.uint8)[np.arange(side) // width % 2][:, None].repeat(side, 1)


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
