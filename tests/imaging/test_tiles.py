import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.imaging.tiles import plan_axis, plan_tiles

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
