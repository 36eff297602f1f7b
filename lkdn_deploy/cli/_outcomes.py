"""The output of ``lkdn-upscale`` on each file and on all of them: results on stdout, everything else on stderr."""

import errno
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy.cli._progress import ProgressDisplay, duration
from lkdn_deploy.cli._shell import complain, echo_path
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import printable

if TYPE_CHECKING:
    from lkdn_deploy.cli._upscale_options import UpscaleRequest
    from lkdn_deploy.core.protocols import RangeUse
    from lkdn_deploy.runtime.inputs import NotTaken
    from lkdn_deploy.runtime.outcomes import Failed, Job, Skipped, Upscaled

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_LAYERS = 5
"""Layers of which the use of their ranges is printed."""

_NAMED = 100
"""Most failed files that the summary names again."""


class OutcomePrinter:
    """Prints outcomes as they come, and counts them for the summary.

    Args:
        request: how much is printed, and in which form.
        total: number of jobs.
        many: whether they are a batch, which one that fails does not end.
        names: how files are called that stand for something else; ``-`` is standard input or output.
    """

    def __init__(
        self, request: "UpscaleRequest", total: int, *, many: bool, names: Mapping[Path, str] | None = None
    ) -> None:
        self._quiet, self._verbose, self._json = request.quiet, request.verbose, request.as_json
        self._total, self._many, self._names = total, many, {} if names is None else names
        self._done = self._skipped = 0
        self._failed: list[str] = []
        self._start = time.monotonic()
        self.display = ProgressDisplay(total, shown=not request.quiet)

    @property
    def begun(self) -> bool:
        """Whether the outcome of any job has come."""
        return self.left < self._total

    @property
    def left(self) -> int:
        """Number of jobs whose outcome has not come yet."""
        return self._total - self._done - self._skipped - len(self._failed)

    def progress(self, job: "Job", done: int, total: int) -> None:
        """Show how far a file is."""
        self.display.advance(job.source, done, total)

    def done(self, done: "Upscaled") -> None:
        """Print a file that was written."""
        self._done += 1
        self.display.finish(done.job.source)
        header, job = done.header, done.job
        with self.display.paused():
            for note in () if self._quiet else done.notes:
                click.echo(f"note: {f'{printable(self._called(job.source))}: ' if self._many else ''}{note}", err=True)
            if self._json:
                facts = {
                    "width": done.width,
                    "height": done.height,
                    "channels": header.channels,
                    "depth": header.depth,
                    "model": done.model,
                    "scale": done.scale,
                    "backend": done.backend,
                    "tiles": done.tiles,
                    "exact": done.exact,
                    "network_seconds": round(done.seconds, 4),
                    "notes": list(done.notes),
                }
                if done.range_use is not None:
                    facts["fixed_point"] = asdict(done.range_use)
                self._echo_json(job, "done", facts)
            elif (name := self._names.get(job.target)) is None:
                echo_path(job.target)
            elif name != "-":
                click.echo(name)
            if self._verbose or not (self._many or self._quiet):
                sizes = f"{header.width}x{header.height} -> {done.width}x{done.height}"
                engine = f"{done.model} x{done.scale} on {done.backend}"
                click.echo(f"{sizes} with {engine}, {done.seconds:.1f} s", err=True)
            if self._verbose and done.range_use is not None:
                click.echo(f"fixed point: {described_use(done.range_use)}", err=True)

    def skipped(self, skipped: "Skipped") -> None:
        """Count a file that was skipped; print it if asked."""
        self._skipped += 1
        self.display.finish(skipped.job.source, skipped=True)
        with self.display.paused():
            if self._json:
                self._echo_json(skipped.job, "skipped", {"reason": skipped.reason})
            if self._verbose or not (self._many or self._quiet):
                click.echo(f"skipped {printable(self._called(skipped.job.source))}: {skipped.reason}", err=True)

    def failed(self, failed: "Failed") -> None:
        """Print the error of a file.

        Raises:
            LkdnError: that error, if the file is the only one.
            InputError: if the disk is full, so that all others would fail, too.
        """
        error = self._named(failed)
        self.display.finish(failed.job.source, failed=True)
        if not self._many:
            self.display.close()
        with self.display.paused():
            if self._json:
                self._echo_json(failed.job, "failed", {"error": error.message, "hint": error.hint})
            if not self._many:
                raise error
            complain(error)
        self._failed.append(error.message)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
            msg = f"the disk is full, with {self._total - self._done - self._skipped} images left to upscale"
            raise InputError(msg, "make room, and give the same command with --resume")

    def not_taken(self, entries: Sequence["NotTaken"]) -> None:
        """Print entries of folders that are no input, one by one in JSON and counted by their reason otherwise."""
        from lkdn_deploy.runtime.inputs import described

        for entry in entries:
            if entry.error:
                complain(InputError(f"{entry.path} {entry.reason}"))
                self._failed.append(f"{entry.path} {entry.reason}")
            if self._json:
                click.echo(
                    json.dumps({"input": self._called(entry.path), "status": "not taken", "reason": entry.reason})
                )
            elif self._verbose:
                click.echo(f"not taken: {printable(self._called(entry.path))}: {entry.reason}", err=True)
        if entries and not self._quiet:
            click.echo(f"note: left out of the input folders: {described(entries)}", err=True)

    def summarise(self, *, interrupted: bool = False) -> None:
        """Print how many files were done, skipped and failed, and name the last."""
        if self._quiet or not self._many:
            return
        counts = f"{self._done} done, {self._skipped} skipped, {len(self._failed)} failed"
        click.echo(f"{counts} of {self._total} images in {duration(time.monotonic() - self._start)}", err=True)
        if self._failed:
            named = [f"  {printable(message.partition(chr(10))[0])}" for message in self._failed[:_NAMED]]
            if len(self._failed) > _NAMED:
                named.append(f"  and {len(self._failed) - _NAMED} more")
            click.echo("\n".join(["failed:", *named]), err=True)
        if interrupted:
            click.echo("hint: the same command with --resume goes on from here", err=True)

    def check(self) -> None:
        """Raise an error if a file failed.

        Raises:
            InputError: in that case.
        """
        if self._failed:
            msg = f"{len(self._failed)} of {self._total} images could not be upscaled"
            raise InputError(msg)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Print what the toolkit logs: warnings, all decisions if asked, only errors if quiet."""
        logger, handler = logging.getLogger("lkdn_deploy"), _EchoingHandler(self.display)
        level = logger.level
        logger.setLevel(logging.INFO if self._verbose else logging.ERROR if self._quiet else logging.WARNING)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _called(self, path: Path) -> str:
        """Return how a file is called."""
        return self._names.get(path, str(path))

    def _named(self, failed: "Failed") -> LkdnError:
        """Return the error with the name of its file in the message."""
        error = failed.error
        source, target = self._called(failed.job.source), self._called(failed.job.target)
        if any(str(name) in error.message for name in (failed.job.source, failed.job.target, source, target)):
            return error
        named = type(error)(f"{source}: {error.message}", error.hint)
        named.__cause__ = error.__cause__
        return named

    def _echo_json(self, job: "Job", status: str, facts: dict[str, object]) -> None:
        source, target = self._called(job.source), self._called(job.target)
        click.echo(json.dumps({"input": source, "output": target, "status": status, **facts}))


class _EchoingHandler(logging.Handler):
    """Prints the records of a logger on stderr, without disturbing the bars."""

    def __init__(self, display: ProgressDisplay) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        with self._display.paused():
            kind = "info" if record.levelno < logging.WARNING else record.levelname.lower()
            click.echo(f"{kind}: {printable(record.getMessage())}", err=True)


def prepare_folders(folders: Sequence[Path], *, create: bool) -> None:
    """Remove what killed runs left in the folders of outputs, after creating them if that is wanted.

    Raises:
        InputError: if one cannot be created.
    """
    from lkdn_deploy.core.files import remove_stale_parts

    for folder in folders:
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"the folder {folder} cannot be created: {error.strerror}"
            raise InputError(msg) from error
        remove_stale_parts(folder)


def described_use(use: "RangeUse") -> str:
    """Return a line on how the ranges of fixed point were used, with the layers that used most of theirs."""
    if not use.windows:
        return "no window was computed"
    most = sorted(use.used, key=lambda layer: use.used[layer], reverse=True)[:_LAYERS]
    layers = ", ".join(f"{layer} {use.used[layer]:.0%}" for layer in most)
    return f"{use.again} of {use.windows} windows computed again in FP32; most of their ranges used: {layers}"
