"""Colour under transparent pixels."""

from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lkdn_deploy.imaging.alpha as module
from lkdn_deploy.imaging.alpha import FilledColour
from lkdn_deploy.imaging.bands import ArrayRows


def fill_transparent(colour: Any, alpha: Any) -> Any:
    """Fill the whole picture at once."""
    source = FilledColour(ArrayRows(np.dstack([colour, alpha])))
    return source.read(0, len(alpha)).reshape(colour.shape)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 20), st.integers(0, 6), st.data())
def test_parts_are_those_of_the_whole(height: int, width: int, holes: int, data: st.DataObject) -> None:
    """The whole is filled by the definition: all grids down to one without gaps, and back."""
    random = np.random.default_rng(height * width)
    picture = random.integers(1, 256, (height, width, 4)).astype(np.uint8)
    for _ in range(holes):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        picture[top : top + data.draw(st.integers(1, height)), left:, 3] = 0
    bounds = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    source = FilledColour(ArrayRows(picture))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 1)
        parts = FilledColour(ArrayRows(picture))
    np.testing.assert_array_equal(source.read(*bounds), by_definition(picture)[slice(*bounds)])
    np.testing.assert_array_equal(parts.read(*bounds), source.read(*bounds))


def by_definition(picture: Any) -> Any:
    visible = picture[..., -1] > 0
    if not visible.any():
        return picture[..., :-1]
    levels = [(picture[..., :-1].astype(np.float32), picture[..., -1].astype(np.float32))]
    while not (levels[-1][1] > 0).all():
        levels.append(module._coarser(*levels[-1]))
    filled, _ = levels.pop()
    for values, weights in reversed(levels):
        filled = np.where(weights[..., None] > 0, values, module._finer(filled, *weights.shape))
    return np.where(visible[..., None], picture[..., :-1], np.rint(filled).astype(picture.dtype))


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
