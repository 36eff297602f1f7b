"""Conversion of colours is accurate to a level, in both directions."""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from lkdn_deploy.video.colours import FULL, LIMITED, Colours
from lkdn_deploy.video.conversion import FromPixels, ToPixels

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue, by matrix
CASES = [(bits, matrix, range_) for bits in (8, 10) for matrix in WEIGHTS for range_ in (LIMITED, FULL)]


@pytest.mark.parametrize(("bits", "name"), [(8, "gray"), (10, "gray10le")])
def test_grey_films_keep_their_range(bits: int, name: str) -> None:
    scale = 1 << (bits - 8)
    levels = np.kron(np.array([16, 81, 150, 235]) * scale, np.ones((16, 16), int))
    frame = av.VideoFrame.from_ndarray(levels.astype(np.uint8 if bits == 8 else np.uint16), format=name)
    frame.color_range, frame.time_base = LIMITED, Fraction(1, 25)
    pixels = ToPixels(8 if bits == 8 else 16, ())(frame) / (255 if bits == 8 else 65535)
    assert abs(pixels[8, 8::16, 1] - (np.array([16, 81, 150, 235]) - 16) / 219).max() * 255 < 0.6


def blocks(bits: int) -> Iterator[np.ndarray]:
    """Planes of luma and chroma in blocks of 8, so that the chroma of a block's middle is its own."""
    rng, scale = np.random.default_rng(bits), 1 << (bits - 8)
    for low, high in ((60, 200), (110, 146), (110, 146)):
        yield np.kron(rng.integers(low * scale, high * scale, (6, 8)), np.ones((8, 8), int))


def exact(planes: list[np.ndarray], bits: int, matrix: int, range_: int) -> np.ndarray:
    """R'G'B' in 0..1 by the formulas of ITU-R BT.601, BT.709 and BT.2020."""
    (red, blue), scale, peak = WEIGHTS[matrix], 1 << (bits - 8), (1 << bits) - 1
    y = planes[0] / peak if range_ == FULL else (planes[0] - 16 * scale) / (219 * scale)
    u, v = ((plane - 128 * scale) / (peak if range_ == FULL else 224 * scale) for plane in planes[1:])
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)


@pytest.mark.parametrize(("bits", "matrix", "range_"), CASES)
def test_colours_are_converted_to_within_a_level(bits: int, matrix: int, range_: int) -> None:
    planes = list(blocks(bits))
    halved = [planes[0], *(plane[::2, ::2] for plane in planes[1:])]
    kind, name = (np.uint8, "yuv420p") if bits == 8 else (np.uint16, "yuv420p10le")
    flat = np.concatenate([plane.reshape(-1) for plane in halved]).reshape(-1, 64).astype(kind)
    frame = av.VideoFrame.from_ndarray(flat, format=name)
    frame.colorspace, frame.color_range, frame.time_base = matrix, range_, Fraction(1, 25)
    pixels = ToPixels(8 if bits == 8 else 16, ())(frame)
    middle = np.s_[3::8, 3::8]
    expected = np.clip(exact(planes, bits, matrix, range_), 0, 1)[middle]
    peak = 255 if bits == 8 else 65535
    assert abs(pixels[middle] / peak - expected).max() * ((1 << bits) - 1) < 1.1

    back = FromPixels(name, Colours(matrix, range_, 1, 1))(np.ascontiguousarray(pixels)).to_ndarray()
    clipped = ((exact(planes, bits, matrix, range_) < 0) | (exact(planes, bits, matrix, range_) > 1)).any(axis=-1)
    luma = abs(back[:48].astype(int) - planes[0])[middle][~clipped[middle]]
    assert luma.max() <= 1
