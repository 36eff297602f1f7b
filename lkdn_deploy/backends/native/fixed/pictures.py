"""The pictures on which fixed point is prepared for a network: usual ones for its ranges, others to try it on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lkdn_deploy.backends.native.ir import Bytes, Floats
from lkdn_deploy.samples import sample_pixels

SIDE = 64
"""Side of the pictures. Larger ones reach hardly further, and all values of a network are in memory at once."""

DRAWN_SIDE = 32
"""Side of ``drawn_pictures``: more of their content is unlike the rest than in as many pixels of larger ones."""

MOST_THREADS = 4
"""Most threads that compute one picture."""

_KINDS = 10
"""Number of kinds of ``drawn_pictures``."""


def shipped_pictures() -> Iterator[Bytes]:
    """Yield pictures of the kinds that users have: parts of the photograph, also noisy, text and flat colours.

    Random pixels and checkers are not among them. They reach far beyond all others, and integers of such ranges would
    be too coarse for them nevertheless, so that pixels would differ by up to 9 levels. They are computed in float32.
    """
    photograph = sample_pixels()
    random = np.random.default_rng(3)
    yield from _parts(photograph, 3, 4)
    for turn in range(3):  # in a smaller picture details are sharper; and other colours
        yield from _parts(np.roll(photograph[::2, ::2], turn, axis=2), 2, 2)
    for part in _parts(photograph[::2, ::2], 2, 2):
        for contrast in (2, 4):
            yield np.clip((part.astype(np.int16) - 128) * contrast + 128, 0, 255).astype(np.uint8)
        yield np.clip(part + random.normal(0, 15, part.shape), 0, 255).astype(np.uint8)
    yield from (_text(), 255 - _text())
    rows, _ = np.mgrid[:SIDE, :SIDE]
    for upper, lower in ((0b100, 0b001), (0b010, 0b101), (0b110, 0b001), (0b011, 0b100), (0b000, 0b111)):
        halves = np.where(rows[..., None] < SIDE // 2, upper, lower)
        yield (255 * (halves >> np.array([2, 1, 0]) & 1)).astype(np.uint8)


def drawn_pictures(count: int) -> Iterator[Bytes]:
    """Yield pictures of random content, of all contrasts: pixels, cells, stripes, edges, waves, dots, ramps and tiles.

    They reach further than usual ones do, up to the ends of the ranges and beyond.
    """
    random = np.random.default_rng(5)
    down, across = np.mgrid[:DRAWN_SIDE, :DRAWN_SIDE]
    for number in range(count):
        pitch = 2 ** int(random.integers(0, 4))
        slope, phase = random.normal(size=2), random.random() * DRAWN_SIDE
        along = slope[0] * down + slope[1] * across
        mask: Any = (
            random.random((DRAWN_SIDE, DRAWN_SIDE)),
            (down // pitch + across // pitch) % 2,
            along // pitch % 2,
            along > phase * slope.sum(),
            np.sin(along) / 2 + 0.5,
            random.random((DRAWN_SIDE, DRAWN_SIDE)) < 1 / (8 * pitch),
            (down if slope[0] > slope[1] else across) // pitch % 2,
            (along[..., None] * random.normal(0, 4, 3) + phase) % 256 / 255,
            random.random((DRAWN_SIDE // pitch, DRAWN_SIDE // pitch, 3)).repeat(pitch, 0).repeat(pitch, 1) > 1 / 2,
            random.random((DRAWN_SIDE, DRAWN_SIDE, 3)),
        )[number % _KINDS]
        low, high = random.integers(0, 256, (2, 3))
        mask = np.asarray(mask, float)
        if number // _KINDS % 2:  # all contrast that there is, in each colour where these are masked one by one
            low = 255 * (low > 127)
            high = 255 - low if mask.ndim > 2 else 255 * (high > 127)
        yield np.rint(low + (mask if mask.ndim > 2 else mask[..., None]) * (high - low)).astype(np.uint8)


def _parts(picture: Bytes, down: int, across: int) -> Iterator[Bytes]:
    rows, columns = (
        np.linspace(0, side - SIDE, count).astype(int)
        for side, count in zip(picture.shape[:2], (down, across), strict=True)
    )
    for top in rows:
        yield from (picture[top : top + SIDE, left : left + SIDE] for left in columns)


def _text() -> Bytes:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for line, colour in enumerate(("black", "red", "blue", "green", "black", "magenta")):
        draw.text((1, 10 * line), "Quick brown fox 012", fill=colour)
    return np.asarray(picture)


def as_image(picture: Bytes) -> Floats:
    """Return a picture, (H, W, 3), as a network takes it: (3, H, W), RGB in 0..1."""
    return np.ascontiguousarray(picture.astype(np.float32).transpose(2, 0, 1) / np.float32(255))
