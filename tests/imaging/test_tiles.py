"""Windows give every pixel once, a halo away from where they are cut, at the least cost that memory allows."""

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lkdn_deploy.imaging.tiles import Span, Tile, choose_window, plan_axis, plan_tiles, smallest_window

lengths, tiles, halos = st.integers(1, 400), st.integers(1, 100), st.integers(0, 110)


@given(lengths, tiles, halos)
def test_every_pixel_is_kept_once_and_far_from_where_its_window_is_cut(length: int, tile: int, halo: int) -> None:
    spans = plan_axis(length, tile + 2 * halo, halo)
    assert [spans[0].keep_start, *(span.keep_stop for span in spans)] == [
        *(span.keep_start for span in spans),
        length,
    ]
    for span in spans:
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


@given(lengths, tiles, halos)
def test_windows_have_one_size_and_are_as_few_as_can_be(length: int, tile: int, halo: int) -> None:
    spans = plan_axis(length, tile + 2 * halo, halo)
    window = min(length, tile + 2 * halo)
    assert {span.stop - span.start for span in spans} == {window}
    # Of n windows the outer two keep tile + halo and the others tile.
    most = lambda n: window if n == 1 else n * tile + 2 * halo  # noqa: E731
    assert most(len(spans)) >= length
    assert len(spans) == 1 or most(len(spans) - 1) < length


@given(lengths, tiles, halos, st.integers(2, 6))
def test_windows_begin_and_end_at_multiples_of_the_step_if_there_is_one(
    length: int, tile: int, halo: int, step: int
) -> None:
    spans = plan_axis(length, tile + 2 * halo, halo, step=step)
    assert [0, *(span.keep_stop for span in spans)] == [*(span.keep_start for span in spans), length]
    (window,) = {span.stop - span.start for span in spans}
    assert window < tile + 2 * halo + 2 * step
    for span in spans:
        assert span.start % step == (length - span.stop) % step == 0
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(0, 12), st.integers(1, 4))
def test_a_copy_put_together_from_tiles_is_the_image(height: int, width: int, tile: int, halo: int, scale: int) -> None:
    image = np.arange(height * width).reshape(height, width)
    large = image.repeat(scale, axis=0).repeat(scale, axis=1)
    result = np.full_like(large, -1)
    for part in plan_tiles(height, width, (tile + 2 * halo, tile + 2 * halo + 1), halo):
        window = image[part.window].repeat(scale, axis=0).repeat(scale, axis=1)
        result[part.place(scale)] = window[part.kept(scale)]
    assert np.array_equal(result, large)


def test_an_image_one_larger_than_the_tile_needs_no_second_window() -> None:
    assert len(plan_tiles(97, 97, (222, 222), 63)) == 1
    assert len(plan_tiles(223, 97, (222, 222), 63)) == 2


@pytest.mark.parametrize("window", [0, 1, 126])
def test_windows_of_nothing_but_halo_are_refused_where_there_is_more_than_one(window: int) -> None:
    with pytest.raises(ValueError, match="leaves nothing between two halos of 63"):
        plan_tiles(200, 100, (window, 300), 63)
    assert len(plan_tiles(100, 100, (126, 126), 63)) == 1


sizes, wide_halos, budgets = st.integers(1, 900), st.integers(0, 70), st.integers(1, 300_000)


def computed(tiles: list[Tile]) -> int:
    """Count the pixels that go through the network."""
    return sum(length(tile.rows) * length(tile.columns) for tile in tiles)


def length(span: Span) -> int:
    return span.stop - span.start


@given(sizes, sizes, wide_halos, budgets, st.integers(1, 64))
@example(1, 900, 63, 1, 1)
@example(900, 900, 70, 300_000, 64)
def test_windows_keep_to_the_budget_unless_they_are_the_least(
    height: int, width: int, halo: int, pixels: int, least: int
) -> None:
    rows, columns = choose_window(height, width, halo, pixels, least=least)
    least = max(least, smallest_window(halo))
    assert rows == height or least <= rows < height
    assert columns == width or least <= columns < width
    assert rows * columns <= pixels or (rows <= least and columns <= least)


@given(sizes, sizes, wide_halos, budgets, st.integers(1, 950), st.integers(1, 950))
def test_nothing_that_is_allowed_costs_less(
    height: int, width: int, halo: int, pixels: int, rows: int, columns: int
) -> None:
    """Compare with windows of any other shape."""
    least = smallest_window(halo)
    rows, columns = min(rows, height), min(columns, width)
    allowed = rows * columns <= pixels and all(
        side >= min(least, size) for side, size in ((rows, height), (columns, width))
    )
    if allowed:
        chosen = plan_tiles(height, width, choose_window(height, width, halo, pixels), halo)
        assert computed(chosen) <= computed(plan_tiles(height, width, (rows, columns), halo))


@given(sizes, sizes, wide_halos, budgets, st.integers(1, 400), st.integers(1, 400))
def test_the_most_that_a_session_takes_comes_first(
    height: int, width: int, halo: int, pixels: int, rows: int, columns: int
) -> None:
    cut = [most for most, size in ((rows, height), (columns, width)) if most < size]
    if any(most <= 2 * halo for most in cut):
        with pytest.raises(ValueError, match=f"leaves nothing between two halos of {halo}"):
            choose_window(height, width, halo, pixels, largest=(rows, columns))
        return
    window = choose_window(height, width, halo, pixels, largest=(rows, columns))
    assert window[0] <= rows
    assert window[1] <= columns
    plan_tiles(height, width, window, halo)


@pytest.mark.parametrize(
    ("height", "width", "window", "work"),
    [
        (500, 700, (500, 700), 1.0),  # fits
        (400, 2000, (400, 751), 1.13),  # three columns; squares cost 1.22
        (2000, 400, (751, 400), 1.13),  # stripes
        (300, 60_000, (300, 1215), 1.12),  # squares cost 1.27
        (650, 650, (388, 650), 1.2),  # stripes, as they lie in memory as one piece; squares cost 3.5
        (1500, 2000, (584, 595), 1.39),  # tiles; full-width stripes cost 2.96, squares 1.48
    ],
)
def test_whole_frame_stripes_or_tiles_whichever_cost_least(
    height: int, width: int, window: tuple[int, int], work: float
) -> None:
    assert choose_window(height, width, 63, 370_000) == window
    assert computed(plan_tiles(height, width, window, 63)) / (height * width) == pytest.approx(work, abs=0.01)


def test_however_little_memory_there_is_a_window_keeps_something() -> None:
    assert choose_window(3000, 2000, 63, 1) == (2 * 63 + 31, 2 * 63 + 31)
    assert choose_window(3000, 2000, 0, 1) == (1, 1)
    assert choose_window(3000, 100, 63, 1) == (2 * 63 + 31, 100)


def test_the_longest_images_are_planned_at_once() -> None:
    start = time.process_time()
    for height, width in ((1, 178_956_970), (13_377, 13_377)):
        rows, columns = choose_window(height, width, 0, 1000)
        assert rows * columns <= 1000
    assert time.process_time() - start < 2  # a try of every number of windows takes minutes
