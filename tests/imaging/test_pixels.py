import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.pixels import check_pixels, from_batch, store_batch, to_batch


@given(
    st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: arrays.arrays(dtype, st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])))
    )
)
def test_integers_survive_the_way_there_and_back(pixels: np.ndarray) -> None:
    batch = to_batch(pixels)
    assert batch.shape == (1, 3, *pixels.shape[:2])
    assert batch.dtype == np.float32
    assert 0 <= batch.min() <= batch.max() <= 1
    assert np.array_equal(from_batch(batch, pixels.shape[2], pixels.dtype), pixels)


def test_an_earlier_batch_s_memory_is_used_again_where_it_has_the_size() -> None:
    random = np.random.default_rng(0)
    first, second, other = (random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((4, 5), (4, 5), (5, 4)))
    batch = to_batch(first)
    assert to_batch(second, batch) is batch
    assert np.array_equal(batch, to_batch(second))
    assert np.array_equal(to_batch(other, batch), to_batch(other))
    assert np.array_equal(batch, to_batch(second))


def test_what_leaves_the_range_is_clipped_not_wrapped() -> None:
    batch = np.array([-0.5, 0.5, 1.5], np.float32).reshape(1, 3, 1, 1)
    assert from_batch(batch, 3, np.dtype(np.uint8)).ravel().tolist() == [0, 128, 255]
    assert from_batch(batch, 3, np.dtype(np.uint16)).ravel().tolist() == [0, 32768, 65535]
    assert from_batch(batch, 3, np.dtype(np.float32)).ravel().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(3, 70_000), (700, 90), (2, 1)])
def test_a_part_of_a_picture_is_filled_and_no_more(
    size: tuple[int, int], channels: int, dtype: type[np.generic]
) -> None:
    """The sizes are converted at once, in many parts, and row by row."""
    height, width = size
    batch = np.random.default_rng(0).random((1, 3, height + 2, width + 3), np.float32) * 1.2 - 0.1
    whole = np.full((height + 4, width + 5, channels + 1), 7, dtype)
    store_batch(batch[:, :, 1:-1, 2:-1], whole[3:-1, 1:-4, :channels])
    expected = batch[0, :, 1:-1, 2:-1].transpose(1, 2, 0)
    if channels == 1:
        expected = (expected @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]
    expected = expected.clip(0, 1)
    inside = whole[3:-1, 1:-4, :channels].copy()
    if dtype == np.float32:
        np.testing.assert_allclose(inside, expected, rtol=0, atol=0 if channels == 3 else 1e-6)
    else:
        levels = np.rint(expected * np.float32(np.iinfo(dtype).max))  # type: ignore[type-var]
        assert np.abs(inside - levels).max() <= (channels == 1)  # luma is added up in another order
    whole[3:-1, 1:-4, :channels] = 7
    assert (whole == 7).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (1, 350, 45), (2, 699, 89)])
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(at: tuple[int, int, int], bad: float) -> None:
    batch = np.zeros((1, 3, 700, 90), np.float32)
    batch[0][at] = bad
    with pytest.raises(ValueError, match="not finite"):
        from_batch(batch, 3, np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4)), "height, width"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels"),
        (np.zeros((0, 4, 3), np.uint8), "got shape"),
        (np.zeros((4, 4, 3), np.int64), "uint8, uint16 or float32"),
        (np.full((4, 4, 3), 200, np.float32), r"lie in 0\.\.1"),
        (np.full((4, 4, 3), np.nan, np.float32), r"lie in 0\.\.1"),
    ],
)
def test_other_arrays_are_refused(image: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_pixels(image)
