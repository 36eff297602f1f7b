"""The cutting of pictures for sessions that take limited windows, run out of memory, or are given several at once."""

import dataclasses
import logging
from collections.abc import Generator, Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkdn_deploy import Upscaler
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import OutOfDeviceMemory, UsageError
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.samples import sample_pixels

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=20, live_channels=12, fused=True)
PICTURE = sample_pixels()


class Twice(SequentialSession):
    """Repeats each pixel; a window of more than ``memory`` pixels does not fit."""

    backend, fixed_size = "stand-in", None

    def __init__(
        self, *, memory: int = 1 << 30, largest: tuple[int, int] | None = None, metadata: ArtifactMetadata = METADATA
    ) -> None:
        self.memory, self.largest, self.metadata = memory, largest, metadata
        self.windows: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        height, width = batch.shape[2:]
        if height * width > self.memory:
            msg = "the GPU is out of memory"
            raise OutOfDeviceMemory(msg)
        self.windows.append((height, width))
        return batch.repeat(2, axis=2).repeat(2, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


class Ahead(Twice):
    """Takes all windows before it gives a result."""

    closed = False

    def run_many(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        try:
            for batch in list(batches):
                yield self.run(batch)
        finally:
            self.closed = True


def doubled(picture: np.ndarray) -> np.ndarray:
    return picture.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(("tile", "window"), [(None, (68, 90)), (60, (70, 90)), (500, (70, 90))])
def test_windows_are_no_larger_than_the_session_takes(tile: int | None, window: tuple[int, int]) -> None:
    session = Twice(largest=(70, 90))
    assert np.array_equal(Upscaler(session, tile=tile)(PICTURE), doubled(PICTURE))
    assert set(session.windows) == {window}  # as many of 68 rows as of 70


def test_a_tile_that_was_asked_for_is_square_and_its_halo_comes_on_top() -> None:
    session = Twice()
    assert np.array_equal(Upscaler(session, tile=50)(PICTURE), doubled(PICTURE))
    assert set(session.windows) == {(90, 90)}


def test_a_long_image_is_cut_across_only() -> None:
    """Squares of its memory would be 127 pixels wide, of which 87 are of use: 28 of them."""
    long = np.tile(PICTURE[:100], (1, 10, 1))
    session = Twice()
    upscaler = Upscaler(session, memory_budget=100 * 127 * 127)
    assert np.array_equal(upscaler(long), doubled(long))
    assert len(session.windows) == len(upscaler.plan(*long.shape[:2])) == 20
    assert set(session.windows) == {(100, 158)}


def test_a_session_that_takes_nothing_but_halo_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing between two halos of 20"):
        Upscaler(Twice(largest=(40, 40)))(PICTURE)


def test_a_picture_that_must_be_seen_whole_and_is_larger_than_the_session_takes_is_refused() -> None:
    whole = dataclasses.replace(METADATA, receptive_radius=None)
    with pytest.raises(UsageError, match="must process the whole image of 240x180, but this artefact takes 300x170"):
        Upscaler(Twice(largest=(170, 300), metadata=whole))(PICTURE)
    assert np.array_equal(Upscaler(Twice(largest=(180, 240), metadata=whole))(PICTURE), doubled(PICTURE))


def test_windows_are_no_smaller_than_the_session_takes() -> None:
    session = Twice(metadata=dataclasses.replace(METADATA, smallest=64))
    assert np.array_equal(Upscaler(session, tile=8)(PICTURE), doubled(PICTURE))
    assert set(session.windows) == {(64, 64)}


@pytest.mark.parametrize("kind", [Twice, Ahead])
def test_memory_that_runs_out_halves_the_windows_and_that_is_remembered(
    kind: type[Twice], caplog: pytest.LogCaptureFixture
) -> None:
    session = kind(memory=70 * 70)
    upscaler = Upscaler(session)
    seen: list[tuple[int, int]] = []
    result = upscaler.upscale(PICTURE, progress=lambda *step: seen.append(step))
    assert np.array_equal(result.pixels, doubled(PICTURE))
    tried = [failed_window(record) for record in caplog.records]
    assert tried[0] == (180, 240)
    for before, after in pairwise(tried):
        assert after[0] * after[1] <= before[0] * before[1] / 4
    assert set(session.windows) == {(64, 64)}  # a quarter of the last is less than the least
    # The plan that ran is reported, not the first one.
    assert (result.tiles, result.exact) == (len(session.windows), True)
    assert result.tiles > 1
    assert seen[-1] == (result.tiles, result.tiles)
    caplog.clear()
    assert np.array_equal(upscaler(PICTURE), doubled(PICTURE))
    assert not caplog.records


def failed_window(record: logging.LogRecord) -> tuple[int, int]:
    """Return the size of the window in a warning that there was no memory for it."""
    width, height = record.message.split(" pixels: ")[0].rsplit(" ", 1)[1].split("x")
    return int(height), int(width)


def test_windows_that_are_long_are_halved_until_they_fit(caplog: pytest.LogCaptureFixture) -> None:
    long = np.tile(PICTURE[:30], (1, 10, 1))
    session = Twice(memory=30 * 100)
    assert np.array_equal(Upscaler(session)(long), doubled(long))
    assert [failed_window(record)[0] for record in caplog.records] == [30, 30, 30]
    ((height, width),) = set(session.windows)
    assert (height, width) == (30, 64)  # a quarter would be 37 columns, which is less than the least


@settings(max_examples=60)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(100 * 41 * 41, 100 * 150 * 150), st.integers(1, 120))
def test_whatever_the_memory_the_picture_is_whole(height: int, width: int, budget: int, side: int) -> None:
    picture = PICTURE[:height, :width]
    session = Twice(memory=max(side, 64) ** 2)
    assert np.array_equal(Upscaler(session, memory_budget=budget)(picture), doubled(picture))


def test_a_tile_that_was_asked_for_is_halved_too(caplog: pytest.LogCaptureFixture) -> None:
    session = Twice(memory=100 * 100)
    assert np.array_equal(Upscaler(session, tile=100)(PICTURE), doubled(PICTURE))
    assert "140x140 pixels: trying windows of 70 pixels a side" in caplog.text


@pytest.mark.parametrize(("radius", "least"), [(20, 64), (40, 100)])
def test_there_is_a_least_window_and_then_an_error_with_a_way_out(radius: int, least: int) -> None:
    session = Twice(memory=1, metadata=dataclasses.replace(METADATA, receptive_radius=radius))
    with pytest.raises(
        OutOfDeviceMemory, match=f"no memory for a window of {least}x{least} pixels: the GPU is"
    ) as error:
        Upscaler(session)(PICTURE)
    assert "--backend ort-cpu" in str(error.value.hint)


def test_what_must_be_whole_or_is_of_one_size_is_not_halved(caplog: pytest.LogCaptureFixture) -> None:
    whole = Twice(memory=1, metadata=dataclasses.replace(METADATA, receptive_radius=None))
    with pytest.raises(OutOfDeviceMemory, match="twice must process the whole image"):
        Upscaler(whole)(PICTURE)
    static = Twice(memory=1)
    static.fixed_size = (100, 100)  # type: ignore[assignment]
    with pytest.raises(OutOfDeviceMemory, match="a window of 100x100 pixels, and the artefact takes no other"):
        Upscaler(static)(PICTURE)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_run_that_is_broken_off_is_closed() -> None:
    """The session is free for another picture at once, not when the garbage is collected."""

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    session = Ahead(largest=(70, 90))
    with pytest.raises(KeyboardInterrupt) as kept:  # and with it all that it passed through
        Upscaler(session)(PICTURE, progress=stop)
    assert session.closed
    assert kept.tb is not None
