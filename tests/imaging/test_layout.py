import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.layout import check_pixels, from_batch, to_batch


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


def test_what_leaves_the_range_is_clipped_not_wrapped() -> None:
    batch = np.array([-0.5, 0.5, 1.5], np.float32).reshape(1, 3, 1, 1)
    assert from_batch(batch, 3, np.dtype(np.uint8)).ravel().tolist() == [0, 128, 255]
    assert from_batch(batch, 3, np.dtype(np.uint16)).ravel().tolist() == [0, 32768, 65535]
    assert from_batch(batch, 3, np.dtype(np.float32)).ravel().tolist() == [0, 0.5, 1]


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
