"""Colour under transparent pixels."""

from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkdn_deploy.imaging.alpha import fill_transparent


@st.composite
def images(draw: st.DrawFn) -> tuple[Any, Any]:
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    size = draw(st.tuples(st.integers(1, 17), st.integers(1, 17)))
    channels = draw(st.sampled_from([(), (1,), (3,)]))
    colour = draw(arrays.arrays(dtype, size + channels))
    alpha = draw(arrays.arrays(dtype, size, elements=st.sampled_from([0, 0, 1, np.iinfo(dtype).max])))
    return colour, alpha


@settings(max_examples=150, deadline=None)
@given(images())
def test_visible_pixels_stay_and_filled_ones_lie_between_them(image: tuple[Any, Any]) -> None:
    colour, alpha = image
    filled = fill_transparent(colour, alpha)
    visible = alpha > 0
    assert (filled.dtype, filled.shape) == (colour.dtype, colour.shape)
    np.testing.assert_array_equal(filled[visible], colour[visible])
    if visible.any():
        assert (filled >= colour[visible].min(axis=0)).all()
        assert (filled <= colour[visible].max(axis=0)).all()
    else:
        np.testing.assert_array_equal(filled, colour)


@settings(max_examples=50, deadline=None)
@given(images())
def test_what_lies_hidden_has_no_influence(image: tuple[Any, Any]) -> None:
    colour, alpha = image
    if not alpha.any():
        return
    other = colour.copy()
    other[alpha == 0] = 77
    np.testing.assert_array_equal(fill_transparent(colour, alpha), fill_transparent(other, alpha))


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (33, 47)])
def test_one_visible_colour_fills_everything(shape: tuple[int, int]) -> None:
    colour, alpha = np.zeros((*shape, 3), np.uint16), np.zeros(shape, np.uint16)
    colour[0, 0], alpha[0, 0] = (65535, 1234, 7), 9
    np.testing.assert_array_equal(fill_transparent(colour, alpha), np.broadcast_to(colour[0, 0], colour.shape))


def test_between_two_colours_the_filling_is_smooth() -> None:
    colour, alpha = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    colour[:, :8], colour[:, -8:] = 40, 200
    alpha[:, :8] = alpha[:, -8:] = 255
    steps = np.diff(fill_transparent(colour, alpha)[32].astype(int))
    assert (steps >= 0).all()
    assert steps.max() < 80  # half of the whole difference, where nothing filled it would be all


def test_floats_are_filled_too() -> None:
    colour, alpha = np.array([[0.5, 0.0]], np.float32), np.array([[1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(fill_transparent(colour, alpha), [[0.5, 0.5]])
