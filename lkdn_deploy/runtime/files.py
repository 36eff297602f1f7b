"""Upscales image files in a pipeline: one picture is read and one is written while the network computes another.

Decoding and encoding release Python's lock, and the network waits for neither. At most three pictures are in memory:
the one read ahead, the one in the network, and the one being written.
"""

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.files import Seal
from lkdn_deploy.core.limits import available_memory
from lkdn_deploy.imaging.files.formats import format_for
from lkdn_deploy.imaging.files.picture import Header, Picture
from lkdn_deploy.imaging.files.read import probe, read_picture
from lkdn_deploy.imaging.files.write import check_fit, check_target, write_picture
from lkdn_deploy.runtime.journal import Finding, Journal, SourceState
from lkdn_deploy.runtime.settings import OutputSettings
from lkdn_deploy.runtime.upscaler import Upscaler

T = TypeVar("T")

_EAGER_PIXELS = 1 << 23
"""Largest picture to read before it is known to fit into memory beside its result: at most 64 MiB."""

_TOO_LARGE = "cut the image in parts, or use a smaller scale"


@dataclass(frozen=True, slots=True)
class Job:
    """An image file to read and one to write.

    Attributes:
        source: file to read.
        target: file to write.
        settings: what decides the bytes of the target.
        overwrite: whether an existing target may be replaced.
        skip_existing: whether the job is skipped if its target exists, whatever that is.
    """

    source: Path
    target: Path
    settings: OutputSettings = field(default_factory=OutputSettings)
    overwrite: bool = False
    skip_existing: bool = False


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A finished job: its target is complete and in place.

    Attributes:
        job: the job.
        header: the source's header.
        width: width of the target in pixels.
        height: height of the target in pixels.
        tiles: number of windows that the image was cut into.
        exact: whether the result equals that of the whole image.
        seconds: time in the network and its conversions, without reading and writing.
        notes: facts that the user should know, a sentence each.
    """

    job: Job
    header: Header
    width: int
    height: int
    tiles: int
    exact: bool
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A job that failed, with the error; a file that was at ``target`` before is still there."""

    job: Job
    error: LkdnError


@dataclass(frozen=True, slots=True, eq=False)
class Skipped:
    """A job that was not done, since its target is there already."""

    job: Job
    reason: str


Progress = Callable[[Job, int, int], None]
"""Called with the job, the number of finished tiles and of all: with none finished at the start, then after each."""


@dataclass(frozen=True, slots=True, eq=False)
class BegunJob:
    """A job whose header has been read and whose target has been checked.

    Attributes:
        job: the job.
        header: the source's header.
        picture: the source, if it is being read already.
    """

    job: Job
    header: Header
    picture: Future[Picture] | None = None


def begin(job: Job) -> BegunJob:
    """Check a job, and start to read its picture, unless it is large, while the network is still being opened.

    Raises:
        InputError: if the source cannot be read or the target cannot be written.
        UsageError: if the target's format, quality or place is wrong.
    """
    begun = _check(job)
    if begun.header.width * begun.header.height > _EAGER_PIXELS:
        return begun
    pool = ThreadPoolExecutor(1, "lkdn-first")
    begun = replace(begun, picture=pool.submit(read_picture, job.source))
    pool.shutdown(wait=False)
    return begun


def upscale_files(
    upscaler: Upscaler,
    jobs: Iterable[Job],
    *,
    progress: Progress | None = None,
    first: BegunJob | None = None,
    journal: Journal | None = None,
) -> Generator[Upscaled | Skipped | Failed, None, None]:
    """Upscale files, and yield the outcome of each, in order. A job that fails does not affect the others.

    The network runs in the caller's thread, when the next outcome is asked for. The generator must be exhausted or
    closed; when it is closed, or interrupted, a result that is being written is completed and no other is begun. A job
    that reads or writes the target of an earlier one waits for it. Where memory is short, jobs wait for each other.

    Args:
        upscaler: the network.
        jobs: the jobs; the next one is taken when there is room for it.
        progress: called as the tiles of each job are computed.
        first: result of ``begin`` for the first job, if it was called.
        journal: says which jobs are finished, which are skipped, and gets a line for each that is done.
    """
    with ThreadPoolExecutor(1, "lkdn-read") as reader, ThreadPoolExecutor(1, "lkdn-write") as writer:
        try:
            load = partial(_load, upscaler, journal)
            yield from _flow(upscaler, jobs, reader, load, _Writing(writer, upscaler.threads), progress, first)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)  # ``with`` waits for the rest


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A picture that was read.

    Attributes:
        size: memory in bytes that picture and result take until the result is written.
        seal: what notes the result in the journal.
    """

    job: Job
    header: Header
    picture: Picture
    notes: tuple[str, ...]
    size: int
    seal: Seal | None


_Load = Callable[[Job, int, BegunJob | None], _Loaded | Skipped]
"""Reads the picture of a job beside a number of bytes that others hold, unless the job is done."""


@dataclass(frozen=True, slots=True, eq=False)
class _Large:
    """A result in memory; the notes of writing it are still missing."""

    outcome: Upscaled
    picture: Picture
    size: int
    seal: Seal | None


class _Writing:
    """The result that is being written, if any. Only the writer holds its pixels, and frees them when it is done."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool, self._threads = pool, threads
        self._begun: tuple[Job, Future[Upscaled]] | None = None
        self.size = 0

    @property
    def job(self) -> Job | None:
        return self._begun and self._begun[0]

    def begin(self, large: _Large) -> None:
        self._begun, self.size = (large.outcome.job, self._pool.submit(_write, large, self._threads)), large.size

    def finish(self) -> Iterator[Upscaled | Failed]:
        """Wait for the result that is being written, and yield its outcome."""
        if self._begun is not None:
            job, done = self._begun
            outcome = _attempt(job, done.result)
            self._begun, self.size = None, 0
            yield outcome


def _flow(
    upscaler: Upscaler,
    jobs: Iterable[Job],
    reader: ThreadPoolExecutor,
    load: _Load,
    writing: _Writing,
    progress: Progress | None,
    first: BegunJob | None,
) -> Generator[Upscaled | Skipped | Failed, None, None]:
    ahead: Future[_Loaded | Skipped] | None = None
    for job, following in _with_following(jobs):
        loaded = None if ahead is None else _attempt(job, ahead.result)
        ahead = None
        if not isinstance(loaded, _Loaded):
            yield from writing.finish()
        if loaded is None or isinstance(loaded, Failed):  # the first, or no memory or no input beside the others
            loaded = _attempt(job, reader.submit(load, job, 0, first).result)
            first = None
        if not isinstance(loaded, _Loaded):
            yield loaded
            continue
        if following is not None and not _depends(following, job, writing.job):
            ahead = reader.submit(load, following, loaded.size + writing.size, None)
        large = _attempt(job, partial(_upscale, upscaler, loaded, progress))
        done = list(writing.finish())
        if isinstance(large, Failed):
            done.append(large)
        else:
            writing.begin(large)
        del large
        yield from done
    yield from writing.finish()


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


def _check(job: Job, *, replaceable: bool = False) -> BegunJob:
    header = probe(job.source)
    check_target(job.target, quality=job.settings.quality, overwrite=job.overwrite or replaceable)
    return BegunJob(job, header)


def _load(
    upscaler: Upscaler, journal: Journal | None, job: Job, held: int, begun: BegunJob | None
) -> _Loaded | Skipped:
    """Read a picture, if its target can hold the result and both fit into memory beside ``held`` bytes."""
    if job.skip_existing and os.path.lexists(job.target):
        return Skipped(job, "the output exists")
    found, state = _look_up(journal, job)
    if found == "finished":
        return Skipped(job, "the output is finished")
    if found == "unknown" and state is not None and journal is not None and journal.loaded and not job.overwrite:
        _refuse_unknown(job.target)
    begun = begun or _check(job, replaceable=found == "outdated")
    header, scale = begun.header, upscaler.scale
    width, height = scale * header.width, scale * header.height
    check_fit(job.target, width=width, height=height, channels=header.channels, depth=header.depth)
    size = _memory(header, upscaler, 1 if format_for(job.target).in_stripes else 2)
    free = available_memory() - held
    if size > free:
        asked = f"{job.source}: x{scale} of {header.width}x{header.height}"
        msg = f"{asked} needs {size >> 20} MiB, {free >> 20} MiB are free"
        raise InputError(msg, _TOO_LARGE)
    upscaler.check_size(header.height, header.width)
    picture = read_picture(job.source) if begun.picture is None else begun.picture.result()
    notes, seal = picture.notes, None
    if journal is not None and state is not None:
        if state.still(job.source):
            seal = journal.seal(job.target, state, job.settings.canonical())
        else:
            notes = (*notes, "the file was changed while it was read: --resume will upscale it again")
    return _Loaded(job, header, picture, notes, size, seal)


def _refuse_unknown(target: Path) -> None:
    if os.path.lexists(target):
        msg = f"{target} exists, and is no result that the journal beside it knows"
        raise UsageError(msg, "replace it with --overwrite, or keep it with --skip-existing instead of --resume")


def _look_up(journal: Journal | None, job: Job) -> tuple[Finding, SourceState | None]:
    """Return what is known of the job's target, and the source as it is, if it can be read and there is a journal."""
    if journal is None:
        return "unknown", None
    try:
        state = SourceState.read(job.source)
    except OSError:  # reading the picture will say so
        return "unknown", None
    return journal.look_up(job.target, state, job.settings.canonical()), state


def _memory(header: Header, upscaler: Upscaler, copies: int) -> int:
    """Return the bytes of a picture and of ``copies`` copies of its result."""
    scale, smallest = upscaler.scale, upscaler.session.metadata.smallest
    pixels = max(header.width, smallest) * max(header.height, smallest)  # small pictures are padded
    return pixels * header.channels * (header.depth // 8) * (1 + copies * scale**2)


def _upscale(upscaler: Upscaler, loaded: _Loaded, progress: Progress | None) -> _Large:
    job, picture = loaded.job, loaded.picture
    start = time.perf_counter()
    result = upscaler.upscale(picture.pixels, progress=None if progress is None else partial(progress, job))
    large = picture.with_pixels(result.pixels)
    outcome = Upscaled(
        job=job,
        header=loaded.header,
        width=large.width,
        height=large.height,
        tiles=result.tiles,
        exact=result.exact,
        seconds=time.perf_counter() - start,
        notes=loaded.notes,
    )
    return _Large(outcome, large, loaded.size, loaded.seal)


def _write(large: _Large, threads: int) -> Upscaled:
    job = large.outcome.job
    quality = job.settings.quality
    notes = write_picture(job.target, large.picture, quality=quality, threads=threads, seal=large.seal)
    return replace(large.outcome, notes=(*large.outcome.notes, *notes))
