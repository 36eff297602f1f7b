"""Raw frames through pipes: every frame, in order, whatever the pieces in which their bytes come and go."""

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twice import Twice

import lkdn_deploy.runtime.raw_frames as module
from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.runtime.raw_frames import FrameLayout, upscale_frames

random = np.random.default_rng(0)


class Piecewise(io.RawIOBase):
    """Gives and takes a few bytes at a time, and now and then nothing, as a pipe that does not block."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self.data, self.written = data, b""
        self._pieces: Iterator[int] = cycle(pieces)
        self._file = open(os.devnull, "r+b", buffering=0)  # noqa: PTH123, SIM115  always ready

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, memory: memoryview) -> int | None:  # type: ignore[override]
        if not (count := next(self._pieces)):
            return None
        piece, self.data = self.data[: min(count, len(memory))], self.data[min(count, len(memory)) :]
        memory[: len(piece)] = piece
        return len(piece)

    def write(self, data: memoryview) -> int | None:  # type: ignore[override]
        if not (count := next(self._pieces)):
            return None
        self.written += bytes(data[:count])
        return min(count, len(data))

    def close(self) -> None:
        self._file.close()
        super().close()


def frames(count: int, layout: FrameLayout) -> np.ndarray:
    peak = np.iinfo(layout.dtype).max
    shape = (count, layout.height, layout.width, 3)
    return random.integers(0, peak, shape, endpoint=True).astype(layout.dtype)


def doubled(stream: np.ndarray) -> bytes:
    return stream.repeat(2, axis=1).repeat(2, axis=2).tobytes()


@given(
    st.integers(1, 5),
    st.sampled_from(("rgb24", "rgb48le")),
    st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
)
def test_frames_are_whole_whatever_the_pieces_in_which_their_bytes_come(
    count: int, pixel_format: str, pieces: list[int]
) -> None:
    layout = FrameLayout(5, 3, pixel_format)
    stream = frames(count, layout)
    source, target = Piecewise(stream.tobytes(), pieces), Piecewise(b"", pieces)
    seen: list[int] = []
    with source, target:
        assert upscale_frames(Upscaler(Twice()), layout, source, target, progress=seen.append) == count
        assert target.written == doubled(stream)
    assert seen == list(range(1, count + 1))


def through_pipes(layout: FrameLayout, data: bytes, read: Callable[[int], None]) -> None:
    """Upscale a stream between two pipes; ``read`` gets the reading end of the second."""
    (source, feed), (result, target) = os.pipe(), os.pipe()

    def write() -> None:
        with open(feed, "wb", buffering=0) as file:  # noqa: PTH123
            try:
                file.write(data)
            except BrokenPipeError:
                return

    threads = [threading.Thread(target=write), threading.Thread(target=read, args=[result])]
    for thread in threads:
        thread.start()
    try:
        with io.FileIO(source) as opened, io.FileIO(target, "w") as written:
            upscale_frames(Upscaler(Twice()), layout, opened, written)
    finally:
        for thread in threads:
            thread.join()


def test_a_stream_through_pipes_that_hold_less_than_a_frame() -> None:
    layout = FrameLayout(200, 180, "rgb24")
    stream = frames(12, layout)
    found: list[bytes] = []

    def read(descriptor: int) -> None:
        with open(descriptor, "rb") as file:
            found.append(file.read())

    through_pipes(layout, stream.tobytes(), read)
    assert found == [doubled(stream)]


def test_a_cut_off_frame_is_an_error_after_the_others_are_written() -> None:
    layout = FrameLayout(7, 5, "rgb48le")
    stream = frames(3, layout)
    with Piecewise(stream.tobytes()[:-11], [64]) as source, Piecewise(b"", [100]) as target:
        with pytest.raises(InputError, match="within frame 3, after 199 of its 210 bytes; the 2 before it"):
            upscale_frames(Upscaler(Twice()), layout, source, target)
        assert target.written == doubled(stream[:2])


def test_a_stream_without_a_frame_is_an_error() -> None:
    with (
        Piecewise(b"", [1]) as source,
        Piecewise(b"", [1]) as target,
        pytest.raises(InputError, match="ended before the first frame"),
    ):
        upscale_frames(Upscaler(Twice()), FrameLayout(2, 2, "rgb24"), source, target)


def test_a_reader_that_leaves_ends_the_stream() -> None:
    layout = FrameLayout(100, 100, "rgb24")

    def read(descriptor: int) -> None:
        os.read(descriptor, 10)
        os.close(descriptor)

    with pytest.raises(BrokenPipeError):
        through_pipes(layout, frames(50, layout).tobytes(), read)


class Failing(Piecewise):
    """Cannot be read to its end."""

    def readinto(self, memory: memoryview) -> int | None:  # type: ignore[override]
        if not self.data:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(memory)


def test_what_was_computed_is_written_before_an_error_ends_the_stream() -> None:
    layout = FrameLayout(2, 2, "rgb24")
    stream = frames(2, layout)
    with Failing(stream.tobytes(), [5]) as source, Piecewise(b"", [7]) as target:
        with pytest.raises(InputError, match="the frames cannot be read: Input/output error"):
            upscale_frames(Upscaler(Twice()), layout, source, target)
        assert target.written == doubled(stream)


def test_frames_that_do_not_fit_into_memory_are_refused_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 3 * (3 * 12 + 4 * 48) - 1)
    with Piecewise(b"", [1]) as source, Piecewise(b"", [1]) as target:
        with pytest.raises(InputError, match="some frames of 4x3 at once, and their results of 8x6, need 0 MiB"):
            upscale_frames(Upscaler(Twice()), FrameLayout(4, 3, "rgb24"), source, target)
        with pytest.raises(InputError, match="ended before the first frame"):
            upscale_frames(Upscaler(Twice()), FrameLayout(3, 3, "rgb24"), source, target)


def test_layouts_are_parsed() -> None:
    assert FrameLayout.parse("640x360:rgb24") == FrameLayout(640, 360, "rgb24")
    assert FrameLayout.parse("3840x2160:rgb48le").new_frame().shape == (2160, 3840, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("640x360", "expected WIDTHxHEIGHT:FORMAT"),
        ("640:rgb24", "expected WIDTHxHEIGHT:FORMAT"),
        ("0x360:rgb24", "expected WIDTHxHEIGHT:FORMAT"),
        ("-1x360:rgb24", "expected WIDTHxHEIGHT:FORMAT"),
        ("999999999x999999999:rgb24", "expected frames of 1 to"),
        ("640x360:yuv420p", "no such pixel format: yuv420p"),
        ("9" * 9999, "expected WIDTHxHEIGHT:FORMAT"),
    ],
)
def test_other_layouts_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FrameLayout.parse(text)
