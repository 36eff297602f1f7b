"""How the upscaler cuts for sessions that take limited windows, run out of memory, or are given several at once."""

import dataclasses
import logging
from collections.abc import Generator, Iterable

import numpy as np
import pytest

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.trt.device import OutOfDeviceMemory
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import InTurn
from lkdn_deploy.samples import sample_pixels

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=20, live_channels=12, fused=True)
PICTURE = sample_pixels()


class Twice(InTurn):
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


@pytest.mark.parametrize("tile", [None, 60, 500])
def test_windows_are_no_larger_than_the_session_takes(tile: int | None) -> None:
    session = Twice(largest=(70, 90))
    assert np.array_equal(Upscaler(session, tile=tile)(PICTURE), doubled(PICTURE))
    assert set(session.windows) == {(70, 90)}


def test_a_session_that_takes_nothing_but_halo_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing between two halos of 20"):
        Upscaler(Twice(largest=(40, 40)))(PICTURE)


def test_a_picture_that_must_be_seen_whole_and_is_larger_than_the_session_takes_is_refused() -> None:
    whole = dataclasses.replace(METADATA, receptive_radius=None)
    with pytest.raises(UsageError, match="must see the whole image of 180x240, this artefact takes 170x300"):
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
    assert np.array_equal(upscaler(PICTURE, progress=lambda *step: seen.append(step)), doubled(PICTURE))
    assert [record.message.split(" pixels: ")[0].rsplit(" ", 1)[1] for record in caplog.records] == [
        "180x240",
        "120x120",
    ]
    assert set(session.windows) == {(64, 64)}  # 60 is less than the least
    assert seen[-1] == (len(seen), len(seen))
    caplog.clear()
    assert np.array_equal(upscaler(PICTURE), doubled(PICTURE))
    assert not caplog.records


def test_a_tile_that_was_asked_for_is_halved_too(caplog: pytest.LogCaptureFixture) -> None:
    session = Twice(memory=100 * 100)
    assert np.array_equal(Upscaler(session, tile=100)(PICTURE), doubled(PICTURE))
    assert "140x140 pixels: trying 70" in caplog.text


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
    with pytest.raises(OutOfDeviceMemory, match="twice must see the whole image"):
        Upscaler(whole)(PICTURE)
    static = Twice(memory=1)
    static.fixed_size = (100, 100)  # type: ignore[assignment]
    with pytest.raises(OutOfDeviceMemory, match="a window of 100x100 pixels, and the artefact takes no other"):
        Upscaler(static)(PICTURE)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_run_that_is_broken_off_is_closed() -> None:
    """The session is free for another picture at once, not when the garbage is collected."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    session = Ahead(largest=(70, 90))
    with pytest.raises(KeyboardInterrupt) as kept:  # and with it all that it passed through
        Upscaler(session)(PICTURE, progress=stop)
    assert session.closed
    assert kept.tb is not None
