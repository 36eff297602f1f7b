"""Image files through an upscaler: one is read and one is written while the network works on the one between.

Decoding and encoding leave Python's lock, and the network waits for neither. At most three pictures are held: the one
that was read ahead, the one in the network, and the one that is being written.
"""

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.imaging.files.formats import format_for
from lkdn_deploy.imaging.files.picture import Header, Picture
from lkdn_deploy.imaging.files.read import probe, read_picture
from lkdn_deploy.imaging.files.write import check_fit, check_target, write_picture
from lkdn_deploy.runtime.upscaler import Upscaler

T = TypeVar("T")

_READ_AT_ONCE = 1 << 23  # pixels, at most 64 MiB

_TOO_LARGE = "cut the image in parts, or use a smaller scale"


@dataclass(frozen=True, slots=True)
class Job:
    """An image file to read and one to write; ``quality`` and ``overwrite`` are those of ``check_target``."""

    source: Path
    target: Path
    quality: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A job that is done: ``target`` is whole and in its place.

    Attributes:
        job: what was asked for.
        header: of the source.
        width, height: of the target, in pixels.
        tiles: how many windows the image was cut into.
        exact: whether the result is that of the whole image.
        seconds: in the network and its conversions, without reading and writing.
        notes: what the user must be told, a sentence each.
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
    """A job that could not be done, and why; what was at ``target`` before is still there."""

    job: Job
    error: LkdnError


Progress = Callable[[Job, int, int], None]
"""Called with the number of tiles done and of all: with none done when a job comes to the network, then after each."""


def begin_reading(source: Path, header: Header) -> Future[Picture] | None:
    """Read a file while its network is being opened; not a large one, which is to be known to fit into memory first."""
    if header.width * header.height > _READ_AT_ONCE:
        return None
    pool = ThreadPoolExecutor(1, "lkdn-first")
    begun = pool.submit(read_picture, source)
    pool.shutdown(wait=False)
    return begun


def upscale_files(
    upscaler: Upscaler,
    jobs: Iterable[Job],
    *,
    progress: Progress | None = None,
    first: Future[Picture] | None = None,
) -> Generator[Upscaled | Failed, None, None]:
    """Upscale files, giving for each, in order, what came of it. A job that fails leaves the others as they are.

    The network runs in the thread that takes the results. To be taken to the end, or closed; then, as on an interrupt,
    what is to be written is written to its end, and nothing else is begun. A job that reads or writes what an earlier
    one writes sees it written. Where memory is short, jobs wait for each other.

    Args:
        upscaler: the network.
        jobs: taken when there is room for one.
        progress: see ``Progress``.
        first: what ``begin_reading`` gave for the first job's source, if it was called.
    """
    with ThreadPoolExecutor(1, "lkdn-read") as reader, ThreadPoolExecutor(1, "lkdn-write") as writer:
        try:
            yield from _flow(upscaler, jobs, reader, _Writing(writer, upscaler.threads), progress, first)
        finally:
            reader.shutdown(wait=False, cancel_futures=True)  # ``with`` waits for the rest


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A picture that was read; ``size`` is what it may take from here until its result is written, in bytes."""

    job: Job
    header: Header
    picture: Picture
    notes: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class _Large:
    """A result with its pixels, told of but for the notes of writing it."""

    outcome: Upscaled
    picture: Picture
    size: int


class _Writing:
    """The one result that is on its way to its file, if any. The writer alone holds its pixels, and lets go of them."""

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
        """What came of it, when it is there."""
        if self._begun is not None:
            job, done = self._begun
            outcome = _attempt(job, done.result)
            self._begun, self.size = None, 0
            yield outcome


def _flow(
    upscaler: Upscaler,
    jobs: Iterable[Job],
    reader: ThreadPoolExecutor,
    writing: _Writing,
    progress: Progress | None,
    first: Future[Picture] | None,
) -> Generator[Upscaled | Failed, None, None]:
    ahead: Future[_Loaded] | None = None
    for job, following in _with_following(jobs):
        loaded = None if ahead is None else _attempt(job, ahead.result)
        ahead = None
        if not isinstance(loaded, _Loaded):  # what fails beside others, for want of memory or of them, may go alone
            yield from writing.finish()
            loaded = _attempt(job, reader.submit(_load, job, upscaler, 0, first).result)
            first = None
        if isinstance(loaded, Failed):
            yield loaded
            continue
        if following is not None and not _depends(following, job, writing.job):
            ahead = reader.submit(_load, following, upscaler, loaded.size + writing.size)
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
    """Each job and the one after it."""
    before: Job | None = None
    for job in jobs:
        if before is not None:
            yield before, job
        before = job
    if before is not None:
        yield before, None


def _depends(job: Job, *earlier: Job | None) -> bool:
    """Whether ``job`` reads or writes what one of those before it is about to write."""
    touched = {os.path.realpath(path) for path in (job.source, job.target)}
    return any(other is not None and os.path.realpath(other.target) in touched for other in earlier)


def _attempt(job: Job, work: Callable[[], T]) -> T | Failed:
    try:
        return work()
    except (LkdnError, MemoryError) as error:
        _let_go(error)
        if isinstance(error, LkdnError):
            return Failed(job, error)
        return Failed(job, InputError(f"{job.source} does not fit into memory", _TOO_LARGE))


def _let_go(error: BaseException | None) -> None:
    """Else an error that is kept would keep the pictures in all that it passed through."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _load(job: Job, upscaler: Upscaler, held: int, begun: Future[Picture] | None = None) -> _Loaded:
    """Read, or take what was ``begun``, if its target can hold it and it fits beside ``held`` bytes."""
    header, scale = probe(job.source), upscaler.scale
    check_target(job.target, quality=job.quality, overwrite=job.overwrite)
    large = scale * header.width, scale * header.height
    check_fit(job.target, width=large[0], height=large[1], channels=header.channels, depth=header.depth)
    size = _memory(header, upscaler, 1 if format_for(job.target).in_stripes else 2)
    free = psutil.virtual_memory().available - held
    if size > free:
        asked = f"{job.source}: x{scale} of {header.width}x{header.height}"
        msg = f"{asked} needs {size >> 20} MiB, {free >> 20} MiB are free"
        raise InputError(msg, _TOO_LARGE)
    upscaler.check_size(header.height, header.width)
    picture = read_picture(job.source) if begun is None else begun.result()
    return _Loaded(job, header, picture, picture.notes, size)


def _memory(header: Header, upscaler: Upscaler, copies: int) -> int:
    """Bytes of the picture, and of so many copies of the result."""
    scale, smallest = upscaler.scale, upscaler.session.metadata.smallest
    pixels = max(header.width, smallest) * max(header.height, smallest)  # its edge is repeated where it is too small
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
    return _Large(outcome, large, loaded.size)


def _write(large: _Large, threads: int) -> Upscaled:
    job = large.outcome.job
    notes = write_picture(job.target, large.picture, quality=job.quality, threads=threads)
    return replace(large.outcome, notes=(*large.outcome.notes, *notes))
