"""Reads the pictures of jobs, or finds out how they can be read in parts, and refuses what cannot be done."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.bands import ArrayRows, RowSource
from lkdn_deploy.imaging.files.formats import format_for
from lkdn_deploy.imaging.files.picture import Description, Header, Picture
from lkdn_deploy.imaging.files.read import memory_in_parts, open_rows, probe, read_picture
from lkdn_deploy.imaging.files.write import check_fit, check_target
from lkdn_deploy.runtime.journal import Finding, Journal, SourceState
from lkdn_deploy.runtime.memory import PictureMemory, ProcessMemory
from lkdn_deploy.runtime.outcomes import Job, Skipped
from lkdn_deploy.runtime.upscaler import Upscaler

_EAGER_PIXELS = 1 << 23
"""Largest picture to read before it is known to fit into memory beside its result: at most 64 MiB."""

_CHANGED = "the file was changed while it was read: --resume will upscale it again"


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


@dataclass(slots=True, eq=False)
class LoadedJob:
    """A job whose picture was read, or is read in parts as its rows are computed.

    Attributes:
        job: the job.
        upscaler: the network that it is for.
        header: the source's header.
        picture: the picture; None if it is read in parts, and when it is not needed any more.
        memory: what it takes.
        journal: notes the result, if there is a journal.
        state: the source as it was before it was read, if there is a journal and it has not changed since.
        notes: on the reading, beside those of the picture.
    """

    job: Job
    upscaler: Upscaler
    header: Header
    picture: Picture | None
    memory: PictureMemory
    journal: Journal | None
    state: SourceState | None
    notes: tuple[str, ...] = ()

    @contextmanager
    def opened(self) -> Iterator[tuple[Description, RowSource]]:
        """Give the description and the rows of the picture.

        Raises:
            InputError: if it is read in parts, and the file cannot be read any more.
        """
        if self.picture is None:
            with open_rows(self.job.source) as opened:
                yield opened
        else:
            yield self.picture.description, ArrayRows(self.picture.pixels)

    def finish(self) -> tuple[str, ...]:
        """Free the picture, whose rows are all computed, and return notes on its reading."""
        self.picture = None
        if self.state is not None and self.memory.in_parts and not self.state.still(self.job.source):
            self.state, self.notes = None, (*self.notes, _CHANGED)
        return self.notes

    def seal(self, part: Path) -> None:
        """Note the complete result in the journal, unless the source was changed while it was read."""
        if self.journal is not None and self.state is not None:
            self.journal.seal(self.job.target, self.state, self.job.settings.canonical())(part)


class Loader:
    """Reads the pictures of jobs.

    Args:
        memory: what there is.
        journal: says which jobs are finished.
    """

    def __init__(self, memory: ProcessMemory, journal: Journal | None) -> None:
        self._memory, self._journal = memory, journal

    def load(self, job: Job, upscaler: Upscaler, held: int = 0, begun: BegunJob | None = None) -> LoadedJob | Skipped:
        """Read a picture, unless the job is done, if its target can hold the result and memory is enough.

        Args:
            job: the job.
            upscaler: the network that the picture is for.
            held: bytes that other pictures hold.
            begun: result of ``begin``, if it was called.

        Raises:
            InputError: if it cannot be read, or not in the memory that there is.
            UsageError: if the target, or the network, cannot take the picture.
        """
        if job.skip_existing and os.path.lexists(job.target):
            return Skipped(job, "the output exists")
        found, state = _look_up(self._journal, job)
        if found == "finished":
            return Skipped(job, "the output is finished")
        try:
            if found == "unknown" and state is not None and not job.overwrite:
                self._refuse_unknown(job.target)
            begun = begun or _check(job, replaceable=found == "outdated")
        except UsageError:
            # Another run on this folder may have finished it since.
            if self._journal is None or _finding(self._journal, job, state) != "finished":
                raise
            return Skipped(job, "the output is finished")
        header = begun.header
        height, width = upscaler.result_size(header.height, header.width)
        check_fit(job.target, width=width, height=height, channels=header.channels, depth=header.depth)
        memory = self._memory.plan(
            header,
            format_for(job.target),
            upscaler,
            file_size=_size(job.source),
            parts=partial(memory_in_parts, job.source),
        )
        self._memory.check(memory, header, upscaler, held)
        picture = None
        if not memory.in_parts:
            picture = read_picture(job.source) if begun.picture is None else begun.picture.result()
        notes: tuple[str, ...] = ()
        if picture is not None and state is not None and not state.still(job.source):
            state, notes = None, (_CHANGED,)
        return LoadedJob(job, upscaler, header, picture, memory, self._journal, state, notes)

    def _refuse_unknown(self, target: Path) -> None:
        if self._journal is not None and self._journal.loaded and os.path.lexists(target):
            msg = f"{target} exists, and is no result that the journal beside it knows"
            raise UsageError(msg, "replace it with --overwrite, or keep it with --skip-existing instead of --resume")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reading the picture will say so
        return 0


def _check(job: Job, *, replaceable: bool = False) -> BegunJob:
    header = probe(job.source)
    check_target(job.target, quality=job.settings.quality, overwrite=job.overwrite or replaceable)
    return BegunJob(job, header)


def _look_up(journal: Journal | None, job: Job) -> tuple[Finding, SourceState | None]:
    """Return what is known of the job's target, and the source as it is, if it can be read and there is a journal."""
    if journal is None:
        return "unknown", None
    try:
        state = SourceState.read(job.source)
    except OSError:  # reading the picture will say so
        return "unknown", None
    return _finding(journal, job, state), state


def _finding(journal: Journal, job: Job, state: SourceState | None) -> Finding:
    return "unknown" if state is None else journal.look_up(job.target, state, job.settings.canonical())
