"""Rows of a result that are handed over as they are finished, of a picture that is read as they need it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy import Upscaler
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, OutOfDeviceMemory
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.imaging.bands import ArrayRows, rechunked
from lkdn_deploy.samples import sample_pixels

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=6, live_channels=12, fused=True)
PICTURE = np.tile(sample_pixels()[:90, :110], (3, 2, 1))


class Twice(SequentialSession):
    """Repeats each pixel; from the run ``fails`` on, a window of more than 64 x 64 pixels does not fit."""

    backend, fixed_size = "stand-in", None

    def __init__(self, fails: int = 1 << 30, smallest: int = 1) -> None:
        self.metadata = dataclasses.replace(METADATA, smallest=smallest)
        self.fails, self.runs = fails, 0

    def run(self, batch: Any) -> Any:
        if self.runs >= self.fails and batch[0, 0].size > 64 * 64:
            msg = "the GPU is out of memory"
            raise OutOfDeviceMemory(msg)
        self.runs += 1
        return batch.repeat(2, axis=2).repeat(2, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


class Watched(ArrayRows):
    """Counts the rows that have been read."""

    rows = 0

    def read(self, top: int, bottom: int) -> Any:
        self.rows = max(self.rows, bottom)
        return super().read(top, bottom)


def picture(height: int, width: int, channels: int, dtype: Any = np.uint8) -> Any:
    """The colours of a photograph, and an alpha with a hole that goes down to the last row."""
    colours = PICTURE[:height, :width]
    alpha = np.linspace(1, 255, width).astype(np.uint8)[None].repeat(height, axis=0)
    alpha[height // 2 :, width // 3 : width // 2 + 1] = 0
    whole = np.dstack([colours, alpha])
    return whole[..., {1: [0], 2: [1, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]].astype(dtype)


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 100),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    tile=st.integers(40, 120),
    fails=st.integers(0, 20),
    smallest=st.sampled_from([1, 64]),
)
def test_bands_are_the_rows_of_the_whole_whatever_happens_on_the_way(
    height: int, width: int, channels: int, dtype: Any, tile: int, fails: int, smallest: int
) -> None:
    image = picture(height, width, channels, dtype)
    expected = Upscaler(Twice(smallest=smallest)).upscale(image).pixels
    session = Twice(fails, smallest)
    seen: list[tuple[int, int]] = []
    with Upscaler(session, tile=tile).bands(image, progress=lambda *step: seen.append(step)) as bands:
        assert (bands.shape, bands.dtype) == (expected.shape, expected.dtype)
        assert np.array_equal(np.concatenate(list(bands)), expected)
    assert seen[-1] == (seen[-1][1],) * 2  # all are done
    assert seen[-1][1] in (bands.tiles, 2 * bands.tiles)


def test_of_rows_that_were_handed_over_none_comes_again_when_memory_runs_out() -> None:
    session = Twice()
    upscaler = Upscaler(session, tile=80)
    bands = upscaler.bands(PICTURE)
    before, first = bands.tiles, next(bands)
    session.fails = session.runs + 1  # in the middle of the second row of tiles
    rest = list(bands)
    assert np.array_equal(np.concatenate([first, *rest]), PICTURE.repeat(2, axis=0).repeat(2, axis=1))
    assert len({len(band) for band in (first, *rest)}) > 1
    assert before < bands.tiles == session.runs - 1  # one was computed in vain


def test_a_picture_is_read_no_further_than_its_rows_are_needed() -> None:
    source = Watched(PICTURE)
    upscaler = Upscaler(Twice(), tile=50)
    bands = upscaler.bands(source)
    assert source.rows == 0
    for row in sorted({(tile.rows.start, tile.rows.stop) for tile in upscaler.plan(*PICTURE.shape[:2])}):
        next(bands)
        assert source.rows == row[1]
    with pytest.raises(StopIteration):
        next(bands)


def test_closing_early_frees_the_session_and_ends_the_rows() -> None:
    session = Twice()
    with Upscaler(session, tile=50).bands(PICTURE) as bands:
        next(bands)
        runs = session.runs
    assert list(bands) == []
    assert session.runs == runs


def test_an_error_of_reading_passes_through() -> None:
    class Damaged(ArrayRows):
        def read(self, top: int, bottom: int) -> Any:
            msg = "a strip is damaged"
            raise InputError(msg)

    with pytest.raises(InputError, match="a strip is damaged"):
        list(Upscaler(Twice()).bands(Damaged(PICTURE)))


@given(st.integers(1, 40), st.integers(1, 50), st.lists(st.integers(0, 40), max_size=6))
def test_bands_of_other_heights_hold_the_same_rows(height: int, rows: int, cuts: list[int]) -> None:
    pixels = PICTURE[:height, :3]
    bands = list(
        rechunked(np.split(pixels, sorted(min(cut, height) for cut in cuts)), pixels.shape, pixels.dtype, rows)
    )
    assert np.array_equal(np.concatenate(bands), pixels)
    assert [len(band) for band in bands[:-1]] == [rows] * (len(bands) - 1)
    assert 0 < len(bands[-1]) <= rows
