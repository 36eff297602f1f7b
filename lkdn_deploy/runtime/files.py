"""Upscales image files in a pipeline: one picture is read and one is written while the network computes another.

Decoding and encoding release Python's lock, and the network waits for neither. A result is written as its rows are
computed, where its format allows. At most three pictures are in memory: the one read ahead, the one in the network, and
the result of the one before, as far as it is not written yet.
"""

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import Seal
from lkdn_deploy.imaging.files.picture import Description, Header
from lkdn_deploy.imaging.files.write import write_bands
from lkdn_deploy.runtime.handover import Handover
from lkdn_deploy.runtime.journal import Journal
from lkdn_deploy.runtime.memory import ProcessMemory
from lkdn_deploy.runtime.outcomes import Failed, Job, JobProgress, Skipped, Upscaled
from lkdn_deploy.runtime.reading import BegunJob, LoadedJob, Loader
from lkdn_deploy.runtime.tiling import Room, UpscaledRows
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.runtime.upscalers import Upscalers

T = TypeVar("T")

_TOO_LARGE = "cut the image in parts, or use a smaller scale"


def upscale_files(
    upscaler: Upscaler | Upscalers,
    jobs: Iterable[Job],
    *,
    progress: JobProgress | None = None,
    first: BegunJob | None = None,
    journal: Journal | None = None,
    max_memory: int | None = None,
) -> Generator[Upscaled | Skipped | Failed, None, None]:
    """Upscale files, and yield the outcome of each, in order. A job that fails does not affect the others.

    The network runs in the caller's thread, when the next outcome is asked for. The generator must be exhausted or
    closed; when it is closed, or interrupted, a result whose rows are all computed is completed, and no other is. A job
    that reads or writes the target of an earlier one waits for it. Where memory is short, jobs wait for each other, and
    TIFF files are read in parts.

    Args:
        upscaler: the network, at one scale or at those that pictures need.
        jobs: the jobs; the next one is taken when there is room for it.
        progress: called as the tiles of each job are computed.
        first: result of ``begin`` for the first job, if it was called.
        journal: says which jobs are finished, which are skipped, and gets a line for each that is done.
        max_memory: bytes that the process may take in all; default: as much as is free. A job that needs more fails
            before any work is done.
    """
    with ThreadPoolExecutor(1, "lkdn-read") as reader, ThreadPoolExecutor(2, "lkdn-write") as writer:
        try:
            memory = ProcessMemory(max_memory)
            pipeline = _Pipeline(upscaler, Loader(memory, journal), memory, reader, writer, progress)
            yield from pipeline.run(jobs, first)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)  # ``with`` waits for the rest


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """A result whose rows are all computed, and which is still being written.

    Attributes:
        outcome: the outcome; the notes of writing are still missing.
        written: gives those notes.
        size: bytes that the result takes until it is written.
    """

    outcome: Upscaled
    written: Future[tuple[str, ...]]
    size: int

    def finish(self) -> Upscaled:
        """Wait until the result is written."""
        return replace(self.outcome, notes=(*self.outcome.notes, *self.written.result()))


@dataclass(slots=True, eq=False)
class _Pipeline:
    """The threads and the state of ``upscale_files``.

    Attributes:
        before: the result of the job before, until it is written.
    """

    upscalers: Upscaler | Upscalers
    loader: Loader
    memory: ProcessMemory
    reader: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    progress: JobProgress | None
    before: _Computed | None = None

    def run(self, jobs: Iterable[Job], first: BegunJob | None) -> Generator[Upscaled | Skipped | Failed, None, None]:
        """Carry out the jobs."""
        ahead: Future[LoadedJob | Skipped] | Failed | None = None
        for job, following in _with_following(jobs):
            loaded = _attempt(job, ahead.result) if isinstance(ahead, Future) else ahead
            ahead = None
            if not isinstance(loaded, LoadedJob):
                yield from self._finish_before()
            if loaded is None or isinstance(loaded, Failed):  # the first, or no memory or no input beside the others
                begun = _attempt(job, partial(self._begin_load, job, 0, first))
                loaded = _attempt(job, begun.result) if isinstance(begun, Future) else begun
                first = None
            if not isinstance(loaded, LoadedJob):
                yield loaded
                continue
            earlier, held = (None, 0) if self.before is None else (self.before.outcome.job, self.before.size)
            memory, header = loaded.memory, loaded.header
            room = memory.room(self.memory.budget(memory, held))
            window, beside = loaded.upscaler.room_taken(header.height, header.width, room)
            if following is not None and not _depends(following, job, earlier):
                others = held + memory.source + memory.result + window + beside
                ahead = _attempt(following, partial(self._begin_load, following, others))
            computed = _attempt(job, partial(self._compute, loaded, room, memory.result or beside))
            del loaded
            yield from self._finish_before()
            if isinstance(computed, Failed):
                yield computed
            else:
                self.before = computed
        yield from self._finish_before()

    def _begin_load(self, job: Job, held: int, begun: BegunJob | None = None) -> Future[LoadedJob | Skipped]:
        # Some engines belong to the thread that opens them, so it is not the reader that chooses the upscaler.
        upscaler = self.upscalers.for_picture(job.source)
        return self.reader.submit(self.loader.load, job, upscaler, held, begun)

    def _finish_before(self) -> Iterator[Upscaled | Failed]:
        """Wait for the result that is being written, and yield its outcome."""
        if self.before is not None:
            before, self.before = self.before, None
            yield _attempt(before.outcome.job, before.finish)

    def _compute(self, loaded: LoadedJob, room: Room, size: int) -> _Computed:
        """Compute the rows of a result, and hand them over to the thread that writes it."""
        job, upscaler = loaded.job, loaded.upscaler
        report = None if self.progress is None else partial(self.progress, job)
        with loaded.opened() as (description, source), upscaler.bands(source, progress=report, room=room) as rows:
            height, width, channels = rows.shape
            large = replace(description, header=Header(width, height, channels, description.header.depth))
            handover = Handover()
            written = self.writer.submit(_write, job, large, handover, loaded.seal, upscaler.threads)
            try:
                seconds = _hand_over(rows, handover)
                notes = (*description.notes, *loaded.finish())
                handover.end()
            except Handover.Broken:
                written.result()  # raises why
                raise
            except BaseException:
                handover.break_off()
                wait([written])  # which removes what it has written
                raise
        outcome = Upscaled(
            job=job,
            model=upscaler.session.metadata.model,
            scale=upscaler.scale,
            backend=upscaler.session.backend,
            header=loaded.header,
            width=width,
            height=height,
            tiles=rows.tiles,
            exact=rows.exact,
            seconds=seconds,
            notes=notes,
            range_use=upscaler.session.range_use(),
        )
        return _Computed(outcome, written, size)


def _write(job: Job, description: Description, bands: Handover, seal: Seal, threads: int) -> tuple[str, ...]:
    """Write a result as its rows come, in a thread of its own; return the notes of writing."""
    try:
        return write_bands(job.target, description, bands, quality=job.settings.quality, threads=threads, seal=seal)
    finally:
        bands.break_off()


def _hand_over(rows: UpscaledRows, handover: Handover) -> float:
    """Hand over all rows; return the seconds that it took to compute them."""
    seconds = 0.0
    while True:
        start = time.perf_counter()
        band = next(rows, None)
        seconds += time.perf_counter() - start
        if band is None:
            return seconds
        handover.put(band)
        del band  # or it would stay while the next one is computed


def _with_following(jobs: Iterable[Job]) -> Iterator[tuple[Job, Job | None]]:
    """Yield each job with the one after it."""
    before: Job | None = None
    for job in jobs:
        if before is not None:
            yield before, job
        before = job
    if before is not None:
        yield before, None


def _depends(job: Job, *earlier: Job | None) -> bool:
    """Return whether ``job`` reads or writes the target of one of the earlier jobs."""
    touched = {os.path.realpath(path) for path in (job.source, job.target)}
    return any(other is not None and os.path.realpath(other.target) in touched for other in earlier)


def _attempt(job: Job, work: Callable[[], T]) -> T | Failed:
    try:
        return work()
    except (LkdnError, MemoryError) as error:
        _clear_frames(error)
        if isinstance(error, LkdnError):
            return Failed(job, error)
        return Failed(job, InputError(f"{job.source} does not fit into memory", _TOO_LARGE))


def _clear_frames(error: BaseException | None) -> None:
    """Free what the frames of an error hold: an outcome that keeps the error would keep their pictures."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
