"""Upscales a stream of raw frames, as ffmpeg and mpv write and read them through pipes.

One thread reads frames ahead and one writes results while the network works; a few frames are in memory at a time,
however long the stream is.
"""

import errno
import io
import re
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

import numpy as np

from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.limits import available_memory
from lkdn_deploy.imaging.files.picture import MAX_PIXELS
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.runtime.upscaler import Upscaler

PIXEL_FORMATS: dict[str, np.dtype[Any]] = {"rgb24": np.dtype("u1"), "rgb48le": np.dtype("<u2")}
"""The type of the samples of each pixel format, by its name in ffmpeg. Samples are R, G, B, without gaps."""

_AHEAD = 2
"""Frames that are read ahead, and results that wait to be written."""


_PATIENCE = 0.5
"""Seconds that the main thread waits at a time: a signal that arrives just before a wait is handled after it only."""


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """The bytes of a frame: ``height`` rows of ``width`` pixels, from the top left.

    Attributes:
        width, height: in pixels.
        pixel_format: a name of ``PIXEL_FORMATS``.

    Raises:
        UsageError: if the format is not known, or a frame has no pixels or more than pictures may have.
    """

    width: int
    height: int
    pixel_format: str

    def __post_init__(self) -> None:
        if self.pixel_format not in PIXEL_FORMATS:
            msg = f"no such pixel format: {self.pixel_format}"
            raise UsageError(msg, f"known are {', '.join(PIXEL_FORMATS)}; ffmpeg converts with -pix_fmt rgb24")
        if min(self.width, self.height) < 1 or self.width * self.height > MAX_PIXELS:
            msg = f"expected frames of 1 to {MAX_PIXELS:,} pixels, got {self.width}x{self.height}"
            raise UsageError(msg)

    @classmethod
    def parse(cls, text: str) -> "FrameLayout":
        """Return the layout that a text such as ``640x360:rgb24`` describes.

        Raises:
            UsageError: if it describes none.
        """
        match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8}):(\w{1,20})", text, re.ASCII)
        if match is None:
            msg = f"expected WIDTHxHEIGHT:FORMAT, such as 640x360:rgb24, got {text!r}"
            raise UsageError(msg, f"formats are {', '.join(PIXEL_FORMATS)}")
        return cls(int(match[1]), int(match[2]), match[3])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples in the stream."""
        return PIXEL_FORMATS[self.pixel_format]

    def new_frame(self) -> Pixels:
        """Return memory for a frame, (height, width, 3), in the byte order of the stream."""
        return np.empty((self.height, self.width, 3), self.dtype)


def upscale_frames(
    upscaler: Upscaler,
    layout: FrameLayout,
    source: io.RawIOBase,
    target: io.RawIOBase,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Upscale every frame of a stream, in order, until it ends.

    Args:
        upscaler: the network.
        layout: of the frames; those of the result have another size and the same pixel format.
        source: where frames are read from; reads may be short.
        target: where results are written to; writes may be short.
        progress: called with the number of frames that have been computed.

    Returns:
        The number of frames.

    Raises:
        UsageError: if the network cannot process frames of this size.
        InputError: if a few frames do not fit into memory; if the stream has no frame, or cannot be read; or, after all
            others are written, if its last frame is not complete.
        BrokenPipeError: if the reader of the results has gone.
        OSError: if results cannot be written.
        LkdnError: as ``Upscaler.upscale`` does.
    """
    _check_memory(upscaler, layout)
    reader, writer = _RawReader(source, layout), _RawWriter(target)
    count = 0
    try:
        while (frame := reader.next()) is not None:
            pixels = frame.astype(frame.dtype.newbyteorder("="), copy=False)
            result = upscaler.upscale(pixels).pixels
            reader.give_back(frame)
            writer.put(result.astype(layout.dtype, copy=False))
            del result
            count += 1
            progress(count)
        writer.finish()
    except LkdnError:
        with suppress(OSError):  # the first error matters
            writer.finish()
        raise
    finally:
        reader.stop()
        writer.stop()
    if reader.cut_off:
        msg = f"the stream ended within frame {count + 1}, after {reader.cut_off:,} of its {reader.frame_bytes:,} bytes"
        msg += f"; the {count} before it are written"
        raise InputError(msg, "check the size, the format and the program that writes the frames")
    if count == 0:
        msg = "the stream ended before the first frame"
        raise InputError(msg, "check the program that writes the frames")
    return count


def _check_memory(upscaler: Upscaler, layout: FrameLayout) -> None:
    """Refuse frames that the network cannot process, or of which too few fit into memory."""
    upscaler.check_size(layout.height, layout.width)
    rows, columns = upscaler.result_size(layout.height, layout.width)
    pixels = (_AHEAD + 1) * layout.height * layout.width + (_AHEAD + 2) * rows * columns
    need, free = 3 * pixels * layout.dtype.itemsize, available_memory()
    if need > free:
        msg = f"some frames of {layout.width}x{layout.height} at once, and their results of {columns}x{rows}, need "
        msg += f"{need >> 20} MiB, {free >> 20} MiB are free"
        raise InputError(msg, "use a smaller scale, or a machine with more memory")


class _RawReader:
    """Reads frames ahead, into memory that is used again.

    The thread is a daemon, since a read from a pipe cannot be ended.
    """

    def __init__(self, source: io.RawIOBase, layout: FrameLayout) -> None:
        self._source, self._stopped = source, Event()
        self._free: Queue[Pixels] = Queue()
        for _ in range(_AHEAD + 1):
            self._free.put(layout.new_frame())
        self._read: Queue[Pixels | BaseException | None] = Queue()
        self.frame_bytes = layout.new_frame().nbytes
        self.cut_off = 0
        """Bytes of the last frame, if it is not complete."""
        Thread(target=self._run, name="lkdn-frames-in", daemon=True).start()

    def next(self) -> Pixels | None:
        """Wait for a frame; None at the end of the stream.

        Raises:
            InputError: if the stream cannot be read.
        """
        found: Pixels | BaseException | None = None
        waiting = True
        while waiting:
            with suppress(Empty):
                found, waiting = self._read.get(timeout=_PATIENCE), False
        if isinstance(found, OSError):
            msg = f"the frames cannot be read: {found.strerror or found}"
            raise InputError(msg) from found
        if isinstance(found, BaseException):
            raise found
        return found

    def give_back(self, frame: Pixels) -> None:
        """Let a frame's memory be used for another one."""
        self._free.put(frame)

    def stop(self) -> None:
        """Read no other frame."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                frame = self._free.get()
                filled = _fill(self._source, frame.data.cast("B"))
                if filled < frame.nbytes:
                    self.cut_off = filled
                    self._read.put(None)
                    return
                self._read.put(frame)
        except BaseException as error:  # for the thread that takes the frames
            self._read.put(error)


class _RawWriter:
    """Writes results while the next ones are computed."""

    def __init__(self, target: io.RawIOBase) -> None:
        self._target = target
        self._waiting: Queue[Pixels | None] = Queue(_AHEAD)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="lkdn-frames-out", daemon=True)
        self._thread.start()

    def put(self, result: Pixels) -> None:
        """Have a result written, when there is room for it.

        Raises:
            OSError: if an earlier one could not be written.
        """
        self._put(result)
        self._check()

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            OSError: if it could not be.
        """
        self._put(None)
        while self._thread.is_alive():
            self._thread.join(_PATIENCE)
        self._check()

    def stop(self) -> None:
        """Let the thread end once it is idle, without waiting for it."""
        with suppress(Full):  # then it waits for the reader of the results, and is left behind
            self._waiting.put_nowait(None)

    def _put(self, result: Pixels | None) -> None:
        while True:
            with suppress(Full):
                self._waiting.put(result, timeout=_PATIENCE)
                return

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (result := self._waiting.get()) is not None:
            if self._error is not None:
                continue  # takes what comes, so that nobody waits for room
            try:
                _write(self._target, np.ascontiguousarray(result).data.cast("B"))
            except BaseException as error:  # for the thread that computes the results
                self._error = error


def _fill(source: io.RawIOBase, memory: memoryview) -> int:
    """Read until ``memory`` is full or the stream ends; return the number of bytes."""
    filled = 0
    while filled < len(memory):
        count = source.readinto(memory[filled:])
        if count is None:  # it does not block, and nothing is there
            select.select([source], [], [])
        elif count == 0:
            break
        else:
            filled += count
    return filled


def _write(target: io.RawIOBase, data: memoryview) -> None:
    """Write everything."""
    written = 0
    while written < len(data):
        count: int | None = None
        with suppress(BlockingIOError):
            count = target.write(data[written:])
        if count is None:  # it does not block, and there is no room
            select.select([], [target], [])
        elif count == 0:
            raise OSError(errno.EIO, "nothing is written any more")
        else:
            written += count
