"""Reducing a picture that comes in bands, against MATLAB's bicubic on the whole; and the sizes of results."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.pixels import Pixels, full_scale
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.imaging.resize import OutputSize, parse_scale, reduce_bands

DTYPES = (np.uint8, np.uint16, np.float32)
sides = st.integers(1, 40)


def whole(picture: Pixels, target: tuple[int, int], *, wrap: bool = False) -> Pixels:
    return np.concatenate(list(reduce_bands([picture], picture.shape[:2], target, wrap=wrap)))


def in_bands(picture: Pixels, heights: list[int]) -> Iterator[Pixels]:
    top = 0
    while top < len(picture):
        height = heights[top % len(heights)]
        yield picture[top : top + height]
        top += height


def noise(height: int, width: int, channels: int, dtype: type[np.generic], seed: int = 0) -> Pixels:
    values = np.random.default_rng(seed).random((height, width, channels), np.float32)
    return (values * full_scale(np.dtype(dtype))).astype(dtype)


@given(
    *(sides, sides, sides, sides),
    st.integers(1, 4),
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.booleans(),
)
def test_bands_of_any_heights_give_the_same_bits(
    height: int,
    width: int,
    rows: int,
    columns: int,
    channels: int,
    dtype: type[np.generic],
    heights: list[int],
    wrap: bool,
) -> None:
    picture = noise(height, width, channels, dtype)
    target = min(rows, height), min(columns, width)
    bands = reduce_bands(in_bands(picture, heights), (height, width), target, wrap=wrap)
    reduced = np.concatenate(list(bands))
    assert reduced.shape == (*target, channels)
    assert reduced.dtype == dtype
    assert np.array_equal(reduced, whole(picture, target, wrap=wrap))


@given(sides, sides, st.fractions(Fraction(1, 9), 1, max_denominator=9), st.sampled_from((1, 3)))
def test_it_is_matlabs_bicubic_without_rounding_between_its_passes(
    height: int, width: int, ratio: Fraction, channels: int
) -> None:
    picture = noise(height, width, channels, np.float32)
    # Whole multiples, for which MATLAB's sizes and ours are the same.
    picture = picture.repeat(ratio.denominator, axis=0).repeat(ratio.denominator, axis=1)
    expected = imresize(picture.astype(np.float64), ratio).clip(0, 1)
    assert np.abs(whole(picture, expected.shape[:2]) - expected).max() <= 1e-6
    levels = np.rint(picture * 65535).astype(np.uint16)
    in_levels = imresize(levels.astype(np.float64), ratio).clip(0, 65535)
    # Half a level, and a few units in the last place of float32.
    assert np.abs(whole(levels, expected.shape[:2]) - in_levels).max() <= 0.5 + 8 * 65536 * 2**-24


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [2, 4])
def test_colour_of_transparent_pixels_does_not_reach_visible_ones(channels: int, dtype: type[np.generic]) -> None:
    """A disc of one colour in transparent surroundings of another stays of its colour up to the edge."""
    peak = full_scale(np.dtype(dtype))
    picture = np.zeros((64, 64, channels), dtype)
    picture[..., 0] = peak
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 20
    picture[disc] = 0
    picture[disc, -2] = peak * (channels == 4)
    picture[disc, -1] = peak
    reduced = whole(picture, (23, 29))
    alpha = reduced[..., -1]
    assert 0.05 < np.mean((alpha > 0) & (alpha < peak)) < 0.5
    visible = reduced[alpha > peak / 255 / 2]
    assert np.abs(visible[:, 0].astype(float)).max() <= 1e-3 * peak
    if channels == 4:
        assert visible[:, 2].min() >= peak * (1 - 1e-3)
    assert reduced[alpha == 0][:, 0].max() == peak  # a texture's colour outside of its shape is kept


@given(st.integers(0, 255), st.integers(0, 255), sides, sides)
def test_one_colour_stays_itself(colour: int, alpha: int, height: int, width: int) -> None:
    picture = np.full((40, 40, 4), (colour, 0, 255, alpha), np.uint8)
    assert (whole(picture, (height, width)) == picture[0, 0]).all()


@given(st.integers(0, 23), st.integers(0, 23), st.sampled_from(((12, 8), (6, 24), (24, 3))))
def test_a_texture_that_is_rolled_gives_the_result_rolled(down: int, across: int, target: tuple[int, int]) -> None:
    picture = noise(24, 24, 3, np.uint8)
    steps = [24 // side for side in target]
    shift = down // steps[0] * steps[0], across // steps[1] * steps[1]
    rolled = whole(np.roll(picture, shift, (0, 1)), target, wrap=True)
    back = [by // step for by, step in zip(shift, steps, strict=True)]
    assert np.array_equal(rolled, np.roll(whole(picture, target, wrap=True), back, (0, 1)))


def test_only_the_rows_that_the_filter_spans_are_held() -> None:
    """Rows of the result come as soon as the rows below them are there, and no earlier row is kept for them."""
    given_rows = 0

    def bands() -> Iterator[Pixels]:
        nonlocal given_rows
        for row in noise(400, 8, 3, np.uint8):
            given_rows += 1
            yield row[None]

    done = 0
    for band in reduce_bands(bands(), (400, 8), (100, 4)):
        done += len(band)
        assert given_rows <= 4 * done + 8


@pytest.mark.parametrize(
    ("text", "scale"), [("2", 2), ("1.5", Fraction(3, 2)), ("4/3", Fraction(4, 3)), ("4", 4), ("1.000000001", None)]
)
def test_scales_are_decimals_or_fractions(text: str, scale: Fraction | None) -> None:
    assert parse_scale(text) == (scale or Fraction(10**9 + 1, 10**9))


@pytest.mark.parametrize(
    "text", ["1", "0.5", "4.1", "9/2", "", "two", "1e999999999", "1/0", "3/3", "-2", "nan", "1.5x", "9" * 5000, "٢"]
)
def test_other_scales_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a scale above 1 and at most 4, such as 2, 1.5 or 4/3"):
        parse_scale(text)


@pytest.mark.parametrize(
    ("size", "result", "network"),
    [
        (OutputSize(scale=Fraction(3, 2)), (302, 150), 2),
        (OutputSize(scale=Fraction(3)), (603, 300), 3),
        (OutputSize(width=800), (800, 398), 4),
        (OutputSize(height=100), (201, 100), 2),
        (OutputSize(fit=(640, 240)), (482, 240), 3),
        (OutputSize(fit=(402, 480)), (402, 200), 2),
    ],
    ids=str,
)
def test_sizes_keep_the_aspect_and_take_the_smallest_network_that_serves(
    size: OutputSize, result: tuple[int, int], network: int
) -> None:
    assert size.of(201, 100) == result
    assert size.network_scale(201, 100, (2, 3, 4)) == network
    assert size.network_scale(201, 100, (4,)) == 4


@given(st.integers(1, 9999), st.integers(1, 9999), st.integers(1, 9999), st.integers(1, 9999))
def test_results_fit_into_their_box_and_touch_it_and_are_no_larger_than_the_network_makes(
    width: int, height: int, across: int, down: int
) -> None:
    size = OutputSize(fit=(across, down))
    if not 1 <= min(Fraction(across, width), Fraction(down, height)) <= 4:
        with pytest.raises(UsageError, match=f"a picture of {width}x{height} pixels cannot get the size"):
            size.of(width, height)
        return
    columns, rows = size.of(width, height)
    assert columns <= across
    assert rows <= down
    assert columns == across or rows == down
    scale = size.network_scale(width, height, (2, 3, 4))
    assert columns <= scale * width
    assert rows <= scale * height


def test_sizes_that_no_network_serves_are_refused_with_the_numbers() -> None:
    with pytest.raises(UsageError, match=r"200x100 pixels cannot get the size 'width 100': that would be 0.5 times"):
        OutputSize(width=100).of(200, 100)
    with pytest.raises(UsageError, match=r"'fit 900x900': that would be 4.5 times its size, and results are 1 to 4"):
        OutputSize(fit=(900, 900)).of(200, 100)
    with pytest.raises(UsageError, match=r"x3.5 is wanted of 200x100 pixels, but the network has x2 and x3 only"):
        OutputSize(height=350).network_scale(200, 100, (3, 2))
    with pytest.raises(UsageError, match="got width and height"):
        OutputSize(width=100, height=100)
    with pytest.raises(UsageError, match="got none"):
        OutputSize()
    for nothing in ({"fit": (0, 5)}, {"width": 0}, {"height": -3}):
        with pytest.raises(UsageError, match="1 pixel or more"):
            OutputSize(**nothing)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="above 1"):
        OutputSize(scale=Fraction(1))
